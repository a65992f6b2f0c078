"""Read the prompts of the writer for capable models: files of the package, or of the user's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Template

from pdtrain.storage import hash_json

# the files, and what each may and must be filled with
FIELDS = {
    "sentences.md": {"title", "numbered", "count", "focus", "each", "language", "kinds"},
    "whole.md": {"title", "numbered", "each", "language", "kinds"},
    "alone.md": {"question"},
    "pair.md": {"first", "other", "numbered", "each", "language", "kinds"},
    "same.md": {"question", "first", "other"},
}
REQUIRED = {
    "sentences.md": {"numbered", "focus", "kinds"},
    "whole.md": {"numbered", "kinds"},
    "alone.md": {"question"},
    "pair.md": {"numbered", "kinds"},
    "same.md": {"question", "first", "other"},
}
USUAL = ("sentences.md", "whole.md", "alone.md")  # that every question of this writer depends on

# what each kind asks for, as the model is told it
OF_SENTENCES = {
    "detail": "asks for a fact that the sentence states",
    "rephrased": "asks for such a fact in quite other words than the sentence has",
    "inverse": "tells the fact, and asks for whom or what it is true of",
}
OF_PASSAGES = {
    "combination": "can only be answered from two or more sentences together",
    "enumeration": "asks to list all of something that the text names several of",
    "overview": "asks for a summary of what the text says about its subject",
    "contrast": "asks to compare two things that the text tells about",
    "application": "asks what follows from what the text says for a case that it does not mention",
    "false_premise": "takes something for granted that contradicts the text, which the answer must "
    "put right",
    "unanswerable": "asks for something about the same subject that the text does not say, so that "
    "the answer is that it is not known",
}
OF_PAIRS = {
    "across": "can only be answered from both texts together, such as by what one says about "
    "something that the other names",
    "comparison": "asks to compare something that the first text tells with something that the "
    "second tells",
}


@dataclass(frozen=True)
class Prompts:
    """Hold the texts of all prompts, by the names of their files."""

    texts: dict[str, str]

    @property
    def hash(self) -> str:
        """Return the SHA-256 of what all questions depend on, texts about the kinds included."""
        return hash_json([{name: self.texts[name] for name in USUAL}, OF_SENTENCES, OF_PASSAGES])

    @property
    def pair_hash(self) -> str:
        """Return the SHA-256 of what questions about two passages depend on beside that."""
        return hash_json([self.texts["pair.md"], OF_PAIRS])

    def fill(self, name: str, **values: object) -> str:
        """Return a prompt with its fields filled."""
        return Template(self.texts[name]).substitute(values)


def read(folder: str) -> Prompts:
    """Return the package's prompts, and in their place those that a folder has.

    Args:
        folder: of files named as the package's; empty for none.

    Raises:
        ValueError: the folder has none of them, or a prompt is not UTF-8 text, lacks a field or
            has an unknown one.
    """
    texts = dict(_bundled())
    if folder:
        own = {name: Path(folder).expanduser() / name for name in FIELDS}
        there = {name: path for name, path in own.items() if path.is_file()}
        if not there:
            raise ValueError(
                f"questions.prompts={folder!r} holds none of {', '.join(FIELDS)}, which are the "
                "prompts that it may replace"
            )
        texts |= {name: _text_of(path) for name, path in there.items()}
    for name, text in texts.items():
        _check(name, text)
    return Prompts(texts)


def _text_of(path: Path) -> str:
    """Return the text of a user's file, without a byte order mark."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"the prompt {path} of questions.prompts is not UTF-8 text (byte {error.start} is "
            f"0x{error.object[error.start]:02x}); save it as UTF-8"
        ) from None


@cache
def _bundled() -> dict[str, str]:
    folder = files("pdtrain.synthesis.asking") / "prompts"
    return {name: (folder / name).read_text(encoding="utf-8") for name in FIELDS}


def _check(name: str, text: str) -> None:
    template = Template(text)
    found = set(template.get_identifiers()) if template.is_valid() else set()
    unknown, missing = found - FIELDS[name], REQUIRED[name] - found
    if not template.is_valid():
        what = "has a lone $"
    elif unknown or missing:
        which = ", ".join(f"${field}" for field in sorted(unknown or missing))
        what = f"has an unknown field {which}" if unknown else f"lacks the field {which}"
    else:
        return
    raise ValueError(
        f"the prompt {name} of questions.prompts {what}; it may have "
        f"{', '.join(f'${field}' for field in sorted(FIELDS[name]))}, and $$ for a dollar sign"
    )
