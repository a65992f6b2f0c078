"""documents → passages: whole sentences up to a token budget; no character of text is lost."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pdtrain.config import CorpusConfig, RunConfig
from pdtrain.models.base import fingerprint, load_tokenizer
from pdtrain.progress import say
from pdtrain.records import Passage, content_id
from pdtrain.stage import run_units
from pdtrain.storage import read_jsonl, read_shards, sha256_file

VERSION = 3  # part of the input hash: raise it when the same documents would split differently
READERS: dict[str, Callable[[Path, CorpusConfig], Iterator[Document]]] = {}
Span = tuple[int, int]


@dataclass(frozen=True)
class Document:
    id: str
    title: str
    text: str


def split(config: RunConfig) -> None:
    """The `passages` stage: every document below `corpus.documents`, cut into passages."""
    paths = document_paths(config.corpus)
    tokenizer = load_tokenizer(config.model)
    count = lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])  # noqa: E731
    root = _root(config.corpus)

    def work(_: str, path: Path) -> list[dict[str, Any]]:
        documents = READERS[path.suffix.lower()](path, config.corpus)
        return [
            passage.to_json()
            for document in documents
            for passage in cut(document, config.corpus.max_passage_tokens, count)
        ]

    units = {content_id(_name(path, root), sha256_file(path)): path for path in paths}
    settings = {
        "version": VERSION,
        "corpus": asdict(config.corpus) | {"documents": ""},  # moving the folder changes nothing
        "model": fingerprint(config.model),
    }
    folder = config.folder / "passages"
    run_units(folder, "passages", settings, units, work, "documents")
    if next(read_shards(folder), None) is None:
        raise ValueError(
            f"the {len(paths)} documents in {config.corpus.documents} hold no text; expected at "
            "least one sentence"
        )


def read_passages(config: RunConfig) -> list[Passage]:
    return [Passage.from_json(row) for row in read_shards(config.folder / "passages")]


def document_paths(config: CorpusConfig) -> list[Path]:
    """The corpus folder's readable documents, sorted; hidden files and folders are left out."""
    if not config.documents:
        raise ValueError("corpus.documents is not set; give a folder of documents, or one file")
    root = Path(config.documents).expanduser()
    if not root.exists():
        raise ValueError(
            f"corpus.documents={str(root)!r} does not exist; expected a folder with "
            f"{' '.join(READERS)} files, or one such file"
        )
    if root.is_file():
        found = [root]
    else:
        found = sorted(
            path
            for path in root.rglob("*")
            if path.is_file()
            and not any(part.startswith(".") for part in path.relative_to(root).parts)
        )
    paths = [path for path in found if path.suffix.lower() in READERS]
    if left_out := sorted({path.suffix or path.name for path in found} - {p.suffix for p in paths}):
        say(f"passages: left out files that are not documents: {' '.join(left_out)}")
    if not paths:
        raise ValueError(
            f"corpus.documents={str(root)!r} holds no document; expected files ending in "
            f"{' '.join(READERS)}"
        )
    return paths


def cut(document: Document, max_tokens: int, count: Callable[[str], int]) -> list[Passage]:
    """Passages of whole sentences, about equally long, none of more than `max_tokens` tokens.

    A sentence that is longer than the budget is cut between words. Together the passages hold
    every non-blank character of the document exactly once.
    """
    pieces = [
        (piece, count(document.text[slice(*piece)]))
        for sentence in sentence_spans(document.text)
        for piece in _fit(document.text, sentence, max_tokens, count)
    ]
    groups: list[list[Span]] = []
    total = sum(tokens for _, tokens in pieces)
    target = total / max(1, -(-total // max_tokens))  # the same for all, or the last one is a stub
    held = 0
    for piece, tokens in pieces:
        joined = groups and document.text[groups[-1][0][0] : piece[1]]
        if not joined or held + tokens / 2 > target or count(joined) > max_tokens:
            groups.append([])
            held = 0
        groups[-1].append(piece)
        held += tokens
    return [_passage(document, group, count) for group in groups]


def _passage(document: Document, pieces: list[Span], count: Callable[[str], int]) -> Passage:
    start, end = pieces[0][0], pieces[-1][1]
    text = document.text[start:end]
    return Passage(
        id=content_id(document.id, document.title, start, text),
        document_id=document.id,
        title=document.title,
        text=text,
        start=start,
        end=end,
        num_tokens=count(text),
        sentences=tuple((a - start, b - start) for a, b in pieces),
    )


def _fit(text: str, span: Span, max_tokens: int, count: Callable[[str], int]) -> list[Span]:
    """The span, halved between words until every part fits the budget."""
    start, end = span
    if count(text[start:end]) <= max_tokens or end - start < 2:
        return [span]
    middle = (start + end) // 2
    blanks = [m.start() for m in re.finditer(r"\s", text[start + 1 : end - 1])]
    cut_at = (
        start + 1 + min(blanks, key=lambda b: abs(start + 1 + b - middle)) if blanks else middle
    )
    left, right = _strip(text, (start, cut_at)), _strip(text, (cut_at, end))
    return _fit(text, left, max_tokens, count) + _fit(text, right, max_tokens, count)


# a full stop after these does not end a sentence
ABBREVIATIONS = frozenset(
    (
        "mr mrs ms dr prof st sr jr vs etc e.g i.e no fig vol ca approx dept est inc ltd co corp "
        "jan feb mar apr jun jul aug sep sept oct nov dec gen col lt sgt capt rev hon gov sen rep"
    ).split()
)
SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s+[\"'“‘(\[]*[A-Z0-9À-ÞͰ-ϿЀ-ӿ])|[。！？]")


def sentence_spans(text: str) -> list[Span]:
    """Character spans of the sentences; a line break always ends one. Blanks between are left out.

    Rules for running prose in scripts with capitals, and full-width full stops. A wrong border
    costs a little passage shape, never text.
    """
    spans: list[Span] = []
    for line in re.finditer(r"[^\n]+", text):
        start = line.start()
        for match in SENTENCE_END.finditer(text, line.start(), line.end()):
            word = text[start : match.start()].rsplit(None, 1)[-1:] or [""]
            bare = word[0].lstrip("\"'“‘([").lower()
            is_initial = len(bare) == 1 and bare.isalpha() and match.group().startswith(".")
            if match.group().startswith(".") and (bare in ABBREVIATIONS or is_initial):
                continue
            spans.append((start, match.end()))
            start = match.end()
        spans.append((start, line.end()))
    stripped = (_strip(text, span) for span in spans)
    return [span for span in stripped if span[0] < span[1]]


def _strip(text: str, span: Span) -> Span:
    piece = text[span[0] : span[1]]
    start = span[0] + len(piece) - len(piece.lstrip())
    return start, start + len(piece.strip())


def reader(*suffixes: str) -> Callable[[Any], Any]:
    def register(function: Any) -> Any:
        READERS.update(dict.fromkeys(suffixes, function))
        return function

    return register


@reader(".txt")
def read_txt(path: Path, config: CorpusConfig) -> Iterator[Document]:
    yield Document(_name(path, _root(config)), _title_of(path), _prose(_decode(path)))


@reader(".md", ".markdown")
def read_markdown(path: Path, config: CorpusConfig) -> Iterator[Document]:
    """Markdown, rendered and read as HTML; a YAML header between `---` lines is left out."""
    from markdown_it import MarkdownIt

    source = re.sub(r"\A---\r?\n.*?\n---\r?\n", "", _decode(path), flags=re.DOTALL)
    html = MarkdownIt("commonmark").enable("table").render(source)
    yield _from_html(html, path, config)


@reader(".html", ".htm")
def read_html(path: Path, config: CorpusConfig) -> Iterator[Document]:
    """The text of the page without scripts, styles, navigation, header, footer and form fields."""
    yield _from_html(_decode(path), path, config)


@reader(".jsonl")
def read_rows(path: Path, config: CorpusConfig) -> Iterator[Document]:
    """One document a row: `corpus.text_field`, and `corpus.title_field` if the row has it."""
    return _documents(read_jsonl(path), path, config)


@reader(".parquet")
def read_parquet(path: Path, config: CorpusConfig) -> Iterator[Document]:
    """Rows as of a .jsonl, in the form in which Hugging Face data sets are published."""
    return _documents(_parquet_rows(path, config), path, config)


def _parquet_rows(path: Path, config: CorpusConfig) -> Iterator[dict[str, Any]]:
    """Only the columns that are asked for: others may hold pictures or sound."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            asked = _columns(file.schema_arrow.names, path, config)
            for batch in file.iter_batches(batch_size=1024, columns=asked):
                yield from batch.to_pylist()
    except (OSError, ArrowException) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}") from None


@reader(".arrow")
def read_arrow(path: Path, config: CorpusConfig) -> Iterator[Document]:
    """Rows as of a .jsonl, in the form in which Hugging Face data sets are saved to disk."""
    return _documents(_arrow_rows(path, config), path, config)


def _arrow_rows(path: Path, config: CorpusConfig) -> Iterator[dict[str, Any]]:
    from datasets import Dataset
    from pyarrow import ArrowException

    try:
        rows = Dataset.from_file(str(path))
        yield from rows.select_columns(_columns(rows.column_names, path, config))
    except (OSError, ArrowException) as error:
        raise ValueError(f"{path} cannot be read as an Arrow stream: {error}") from None


def _columns(names: list[str], path: Path, config: CorpusConfig) -> list[str]:
    if config.text_field not in names:
        raise ValueError(
            f"{path}: expected a column {config.text_field!r}, found {', '.join(sorted(names))}; "
            "set corpus.text_field to the column that holds the text"
        )
    return [name for name in (config.text_field, config.title_field, "id") if name in names]


def _documents(rows: Iterable[Any], path: Path, config: CorpusConfig) -> Iterator[Document]:
    """A row without a text, as some data sets have, is a document without one."""
    root = _root(config)
    for number, row in enumerate(rows, 1):
        has_text = isinstance(row, dict) and config.text_field in row
        if not has_text:
            keys = ", ".join(sorted(row)) if isinstance(row, dict) else type(row).__name__
            raise ValueError(
                f"{path}, row {number}: expected a text under {config.text_field!r}, found {keys}; "
                "set corpus.text_field to the key that holds the text"
            )
        text, title = row[config.text_field], row.get(config.title_field)
        if text is not None and not isinstance(text, str):
            raise ValueError(
                f"{path}, row {number}: {config.text_field!r} holds {type(text).__name__}, not a "
                "text; set corpus.text_field to the key that holds one, or leave the row out"
            )
        if re.search(r"[\ud800-\udfff]", f"{text} {title}"):
            raise ValueError(
                f"{path}, row {number}: half of a surrogate pair (\\ud800 to \\udfff), which is no "
                "character; mend the text or leave the row out"
            )
        given = row.get("id")
        name = f"{_name(path, root)}:{number if given is None else given}"
        yield Document(name, str(title or _title_of(path)), _prose(text or ""))


@reader(".pdf")
def read_pdf(path: Path, config: CorpusConfig) -> Iterator[Document]:
    try:
        from pypdf import PdfReader
    except ImportError:
        raise ValueError(
            f"{path} is a PDF, which needs an extra: pip install 'pdtrain[documents]'"
        ) from None
    text = "\n\n".join(page.extract_text() for page in PdfReader(path).pages)
    yield Document(_name(path, _root(config)), _title_of(path), _prose(text))


BLOCKS = ("p div br li tr h1 h2 h3 h4 h5 h6 pre blockquote section article dt dd").split()
NOT_TEXT = (
    "script style nav header footer aside noscript template svg button title "
    "label select textarea"  # of forms; a form itself may hold the whole page
).split()


def _from_html(html: str, path: Path, config: CorpusConfig) -> Document:
    from bs4 import BeautifulSoup
    from bs4.element import NavigableString

    page = BeautifulSoup(html, "html.parser")
    heading = _heading(page)
    title = " ".join(heading.get_text(" ").split()) if heading else ""
    for tag in [*([heading] if heading else []), *page.find_all(NOT_TEXT)]:
        tag.decompose()
    for text in page.find_all(string=True):
        if type(text) is NavigableString:  # not a comment or a doctype
            text.replace_with(re.sub(r"\s+", " ", text))  # the source's line breaks mean nothing
    for tag in page.find_all(BLOCKS):
        tag.append("\n\n")
        tag.insert_before("\n\n")
    return Document(_name(path, _root(config)), title or _title_of(path), _prose(page.get_text()))


def _heading(page: Any) -> Any:
    """The article's: a page's header may hold another one, the site's name."""
    found = page.find_all("h1")
    others = [name for name in NOT_TEXT if name != "header"]
    in_article = [
        tag for tag in found if tag.find_parent(["main", "article"]) and not tag.find_parent(others)
    ]
    in_text = [tag for tag in found if not tag.find_parent(NOT_TEXT)]
    return next(iter([*in_article, *in_text, *found]), None) or page.find("title")


def _prose(text: str) -> str:
    """Paragraphs on one line each: hard line wraps inside a paragraph become blanks."""
    paragraphs = re.split(r"\n\s*\n", text.replace("\r\n", "\n").replace("\r", "\n"))
    return "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs if paragraph.strip())


def _decode(path: Path) -> str:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        bad = error.object[error.start]
        raise ValueError(
            f"{path} is not UTF-8 text (byte {error.start} is 0x{bad:02x}); convert "
            "it, for example `iconv -f LATIN1 -t UTF-8`, or move it out of the corpus folder"
        ) from None
    if "\0" in text:
        raise ValueError(
            f"{path} holds NUL bytes: it is a binary file whatever its name says; move it out of "
            "the corpus folder"
        )
    return text


def _root(config: CorpusConfig) -> Path:
    root = Path(config.documents).expanduser()
    return root if root.is_dir() else root.parent


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _title_of(path: Path) -> str:
    return re.sub(r"[_-]+", " ", path.stem).strip().title()
