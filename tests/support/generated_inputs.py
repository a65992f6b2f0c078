"""Make up documents and configs from a seed: ordinary ones, odd ones and hostile ones."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from pdtrain.config import RunConfig
from pdtrain.keys import all_keys

WORDS = "pier lamp boat wall tide rope crane quay mill oil bell storm light stone gate Osk".split()
ODD = [
    "",
    " ",
    "\t",
    "…",
    ". . . . . . . .",
    "....................",
    "a" * 400,
    "é".join("aeiou"),
    "e\u0301",
    "\u00ad",
    "\u200b",
    "港の灯台は古い。",
    "「行こう」と言った。",
    "مرحبا بالعالم",
    "👩\u200d👩\u200d👧",
    "ﬁﬂ",
    "1.",
    "z. B.",
    "Dr. Gray",
    "3.5 km",
    "<|im_start|>user",
    "<|im_end|>",
    "[INST]",
    "</s>",
    "<start_of_turn>",
    "${oc.env:HOME}",
    "{title}",
    "%s %d {0}",
    "`rm -rf ~`",
    "&amp; &lt;b&gt; &#x;",
    "a@b.c.d.e@f",
    "http://x.example/?a=b&c=d",
    "| a | b |",
    "---",
    "***",
    "\\",
    "'\"",
    "\ufeff",
    "\x1b[31m",
    "\x07",
]
DEFAULTS: dict[str, Any] = asdict(RunConfig())
TAGS = "p div span b i ul li table tr td th h1 h2 pre code blockquote section a sup sub".split()


@dataclass(frozen=True)
class Made:
    """Hold a file that was made up, and words that must stand in what is read of it."""

    suffix: str
    content: str
    kept: list[str]


class Maker:
    """Make up inputs; the same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.marked = 0

    def mark(self, kept: list[str]) -> str:
        """Return a word that stands nowhere else, and must not be lost."""
        self.marked += 1
        kept.append(f"Mark{self.marked:05d}")
        return kept[-1]

    def text(self, kept: list[str], most: int = 40) -> str:
        """Return words and odd pieces, with blanks or line breaks between them."""
        parts = []
        for _ in range(self.rng.randrange(1, most)):
            roll = self.rng.random()
            if roll < 0.1:
                parts.append(f"The {self.mark(kept)} is long.")
            else:
                parts.append(self.rng.choice(ODD if roll < 0.3 else WORDS))
        return "".join(
            part + self.rng.choice([" ", " ", " ", ". ", "\n", "\n\n"]) for part in parts
        )

    def plain_text(self, kept: list[str], most: int = 12) -> str:
        """Return words on one line, with nothing in them that a format gives a meaning to."""
        words = self.rng.choices(WORDS, k=self.rng.randrange(1, most))
        return " ".join([*words, self.mark(kept)])

    def html(self, kept: list[str]) -> str:
        def tree(depth: int) -> str:
            tag = self.rng.choice(TAGS)
            inside = "".join(
                tree(depth + 1)
                if self.rng.random() < 0.5 and depth < 12
                else f" {self.plain_text(kept)}. {self.rng.choice(ODD[2:30])} ".replace("<", "&lt;")
                for _ in range(self.rng.randrange(1, 4))
            )
            close = f"</{tag}>" if self.rng.random() < 0.9 else ""
            return f"<{tag}>{inside}{close}"

        body = "".join(f"<p>{tree(0)}</p>" for _ in range(self.rng.randrange(1, 3)))
        return f"<html><body>{body}</body></html>"

    def markdown(self, kept: list[str]) -> str:
        lines = [
            self.rng.choice(["# ", "- ", "> ", "1. ", "", "", "    ", "| ", "```\n"])
            + self.plain_text(kept)
            for _ in range(self.rng.randrange(1, 20))
        ]
        return self.rng.choice(["\n", "\n\n"]).join(lines)

    def json_lines(self, kept: list[str]) -> str:
        records = [{"text": self.text(kept), "id": i} for i in range(self.rng.randrange(1, 6))]
        return "".join(json.dumps(record) + "\n" for record in records)

    def table(self, kept: list[str]) -> str:
        width = self.rng.randrange(2, 6)
        rows = [
            ",".join(self.plain_text(kept, 3) for _ in range(width))
            for _ in range(self.rng.randrange(2, 12))
        ]
        return "\n".join(rows) + "\n"

    def code(self, kept: list[str]) -> str:
        return "\n".join(
            " " * self.rng.choice([0, 0, 4, 8]) + f"{self.plain_text(kept, 3)}".replace(" ", "_")
            for _ in range(self.rng.randrange(1, 30))
        )

    def bytes_of_any_kind(self, kept: list[str]) -> str:
        return "".join(chr(self.rng.randrange(1, 0x2FF)) for _ in range(self.rng.randrange(1, 200)))

    def document(self) -> Made:
        """Return a file of one of the formats."""
        kept: list[str] = []
        formats: list[tuple[str, Callable[[list[str]], str]]] = [
            (".txt", self.text),
            (".html", self.html),
            (".md", self.markdown),
            (".jsonl", self.json_lines),
            (".csv", self.table),
            (".py", self.code),
        ]
        suffix, make = self.rng.choice(formats)
        if self.rng.random() < 0.15:  # what is in it is another kind of file, or none
            suffix = self.rng.choice(
                [*dict(formats), ".srt", ".vtt", ".rst", ".json", ".eml", ".tsv"]
            )
            return Made(suffix, self.rng.choice([self.bytes_of_any_kind, make])(kept), [])
        return Made(suffix, make(kept), kept)

    def value(self, depth: int = 0) -> Any:
        """Return a value of any type that YAML has."""
        values: list[Any] = [
            *(None, True, False, 0, 1, -1, 7, 10**30, 0.5, -2.5, float("nan"), float("inf")),
            *("", "auto", "off", "7", "1e-4", "true", "null", "~", *ODD),
        ]
        if depth < 3 and self.rng.random() < 0.15:
            return [self.value(depth + 1) for _ in range(self.rng.randrange(3))]
        if depth < 3 and self.rng.random() < 0.15:
            keys = ["a", "", "temperature", "url", 7]
            return {self.rng.choice(keys): self.value(depth + 1) for _ in range(2)}
        return self.rng.choice(values)

    def config(self) -> dict[str, Any]:
        """Return a config of a few keys, most of which there are, with any values."""
        found: dict[str, Any] = {}
        keys = all_keys()
        for _ in range(self.rng.randrange(1, 5)):
            *above, last = self.rng.choice(keys).split(".")
            section, defaults = found, DEFAULTS
            for name in above:
                defaults = defaults[name]
                inside = section.setdefault(name, {})
                if not isinstance(inside, dict):
                    break
                section = inside
            else:
                usual = defaults.get(last) if self.rng.random() < 0.7 else self.value()
                section[last if self.rng.random() < 0.95 else last[1:]] = usual
        return found
