"""Define the knobs of the documents."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from pdtrain.schema.checks import decides, require


@dataclass(frozen=True)
class CorpusConfig:
    """Say where the documents are and how they are cut into passages."""

    # folder of documents, a single one, a pattern such as docs/**/*.md, an address such as
    # s3://bucket/docs, a data set such as datasets://owner/name?split=train, or a list of these;
    # docs/own-documents.md lists the formats
    documents: Any = field(default="", metadata=decides())
    # patterns of names below the folder that are left out, such as drafts or *.bak
    exclude: list[str] = field(default_factory=list, metadata=decides())
    # follow links that lead out of the folder; those that stay inside are always followed
    links_outside: bool = field(default=False, metadata=decides())
    # what a file that cannot be read does: `skip` names it and goes on, `stop` names all of them
    # and ends the run
    on_error: Literal["skip", "stop"] = field(default="skip", metadata=decides())
    # processes that read files; 0 is as many as there are cores and work for
    workers: int = field(default=0, metadata=decides())
    text_field: str = "text"  # key of the text in the records of .jsonl, .parquet and .arrow files
    title_field: str = "title"  # key of the title in such records
    # what the text of a record is made of, such as "{title}\\n\\n{body}"; {meta.year} looks into a
    # column, and {{ stands for a brace. Empty takes text_field
    text: str = ""
    title: str = ""  # the same for its title; empty takes title_field
    max_passage_tokens: int = 512  # a passage has at most this many tokens
    # a passage begins with the last sentences of the one before, up to so many tokens; 0 is off
    overlap_tokens: int = 0
    # documents that are left out for others before them: `exact` those with equal text, `near`
    # also those that are similar; `off` none
    duplicates: Literal["off", "exact", "near"] = field(
        default="exact", metadata=decides("passages")
    )
    # the same for passages; equal ones are left out where their titles are equal, too
    passage_duplicates: Literal["off", "exact", "near"] = field(
        default="off", metadata=decides("passages")
    )
    # share of common word runs (Jaccard similarity of shingles of 5 words) from which texts count
    # as similar
    near_duplicate: float = field(default=0.8, metadata=decides("passages"))
    # a line or sentence that stands in at least this many documents is boilerplate and leaves the
    # passages; 0 is off
    repeated_lines: int = field(default=0, metadata=decides("passages"))
    # ISO 639 codes such as [en, de]; documents in other languages are left out; empty is off
    languages: list[str] = field(default_factory=list)
    # leave out documents that hardly hold text: signs instead of letters, lines that repeat one
    # another, encoded data
    quality: bool = False
    # what is done about e-mail addresses, telephone numbers, keys and tokens: `count` says how many
    # there are, `drop` also leaves out the passages that hold one
    personal_data: Literal["keep", "count", "drop"] = "keep"
    # languages of scanned pages, by Tesseract's names joined with +, such as deu+eng; their text is
    # then recognised. Empty is off: a scan is named and left out
    ocr: str = field(default="", metadata=decides())

    def __post_init__(self) -> None:
        is_list = isinstance(self.documents, list | tuple)
        entries = self.documents if is_list else [self.documents]
        require(
            all(isinstance(entry, str) for entry in entries),
            "corpus.documents must be a folder, a file, a pattern or a list of these, got "
            f"{self.documents!r}",
        )
        for name in ("text", "title"):
            value = getattr(self, name)
            require(
                not value or bool(re.search(r"\{[^{}]+\}", value)),
                f"corpus.{name} must name a column in braces, such as '{{title}}', got {value!r}; "
                f"corpus.{name}_field takes the name of one column",
            )
        require(
            not self.ocr or re.fullmatch(r"\w+(\+\w+)*", self.ocr) is not None,
            "corpus.ocr must be names of Tesseract's languages joined with +, such as deu+eng, got "
            f"{self.ocr!r}",
        )
        require(self.workers >= 0, f"corpus.workers must be >= 0 (0 is auto), got {self.workers}")
        require(
            self.repeated_lines == 0 or self.repeated_lines >= 2,
            f"corpus.repeated_lines must be 0 or at least 2, got {self.repeated_lines}",
        )
        require(
            0.5 <= self.near_duplicate <= 1,
            f"corpus.near_duplicate must be in [0.5, 1], got {self.near_duplicate}",
        )
        require(
            self.max_passage_tokens >= 16,
            f"corpus.max_passage_tokens must be at least 16, got {self.max_passage_tokens}",
        )
        require(
            0 <= self.overlap_tokens <= self.max_passage_tokens // 2,
            f"corpus.overlap_tokens must be from 0 to {self.max_passage_tokens // 2}, half of "
            f"corpus.max_passage_tokens, got {self.overlap_tokens}",
        )
