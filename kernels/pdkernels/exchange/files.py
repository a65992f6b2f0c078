"""Write and read teachers as safetensors files that say what they hold.

The format is https://huggingface.co/docs/safetensors: eight bytes with the header's length, a JSON
header, and the tensors one after the other. The header's metadata holds the format's name and
version, the temperature, the size of the vocabulary, what each tensor means, and what the writer
adds, such as the tokenizer. Any reader of safetensors reads it; nothing in it runs.
"""

import ctypes
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pdkernels.topk import TopK

FORMAT, VERSION = "pdkernels.topk", "1"
DTYPES = {"I64": torch.int64, "I32": torch.int32, "F32": torch.float32, "F64": torch.float64}
MEANING = {
    "ids": "(N, k) token ids; a row of -100 has no teacher",
    "log_p": "(N, k) natural log-probabilities over the whole vocabulary, at the temperature",
    "log_p_tail": "(N,) natural logarithm of the mass outside the k tokens; -inf is none",
    "lse": "(N,) log-sum-exp of the logits over the temperature; 0 where it is not known",
    "row_splits": "(R + 1,) where each record's rows begin and the last one's end",
}


def write_topk(
    path: str | Path,
    topk: TopK,
    *,
    num_words: int,
    row_splits: Tensor | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a teacher's rows.

    Args:
        path: of the file.
        topk: the rows.
        num_words: the size of the vocabulary.
        row_splits: (R + 1,) where the rows of each record begin, from 0 to the number of rows.
        metadata: what else a reader should know, such as the tokenizer's name and its hash.

    Raises:
        ValueError: an id is no word, the splits do not fit, or metadata has a name of ours.
    """
    counts_N = ~topk.ignored(-100)
    ids = topk.ids_NK[counts_N]
    if ids.numel() and not (int(ids.min()) >= 0 and int(ids.max()) < num_words):
        raise ValueError(f"the teacher names tokens outside a vocabulary of {num_words} words")
    tensors = {
        "ids": topk.ids_NK.int(),
        "log_p": topk.log_p_NK.float(),
        "log_p_tail": topk.log_p_tail_N.float(),
        "lse": topk.lse_N.float(),
    }
    if row_splits is not None:
        _check_splits(row_splits, len(topk))
        tensors["row_splits"] = row_splits.long()
    about = {"format": FORMAT, "version": VERSION, "temperature": repr(float(topk.temperature))}
    about |= {"num_words": str(num_words), "k": str(topk.k)}
    about |= {name: MEANING[name] for name in tensors}
    taken = about.keys() & (metadata or {}).keys()
    if taken:
        raise ValueError(f"metadata may not set {', '.join(sorted(taken))}: the format does")
    _write(Path(path), tensors, {**about, **(metadata or {})})


def read_topk(path: str | Path) -> tuple[TopK, Tensor | None, dict[str, str]]:
    """Return the rows of a file, where each record's begin, and the metadata.

    Raises:
        ValueError: the file is of another format or version, cut short, or holds no teacher.
    """
    tensors, metadata = _read(Path(path))
    found = metadata.get("format"), metadata.get("version")
    if found != (FORMAT, VERSION):
        raise ValueError(f"{path} has format and version {found}, expected {(FORMAT, VERSION)}")
    log_p, ids, lse, tail = (tensors[name] for name in ("log_p", "ids", "lse", "log_p_tail"))
    topk = TopK(log_p, ids, lse, tail, float(metadata["temperature"]))
    splits = tensors.get("row_splits")
    if splits is not None:
        _check_splits(splits, len(topk))
    return topk, splits, metadata


def _check_splits(row_splits: Tensor, num_rows: int) -> None:
    values = row_splits.tolist()
    if not values or values[0] != 0 or values[-1] != num_rows or values != sorted(values):
        raise ValueError(f"row_splits must rise from 0 to the number of rows, {num_rows}")


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    names = {dtype: name for name, dtype in DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": metadata}
    at = 0
    for name, tensor in tensors.items():
        end = at + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, end]
        }  # fmt: skip
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            held = tensor.detach().cpu().contiguous()  # read by its address: numpy may be missing
            file.write(ctypes.string_at(held.data_ptr(), held.numel() * held.element_size()))


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    if not 8 < start <= len(data):
        raise ValueError(f"{path} is no safetensors file, or cut short")
    header = json.loads(data[8:start])
    metadata, tensors = header.pop("__metadata__", {}), {}
    for name, entry in header.items():
        first, last = (start + offset for offset in entry["data_offsets"])
        dtype, shape = DTYPES.get(entry["dtype"]), entry["shape"]
        if dtype is None:
            raise ValueError(f"{path}: {name} has dtype {entry['dtype']}, expected {list(DTYPES)}")
        if last > len(data) or last - first != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{path} is cut short: {name} does not fit")
        part = bytearray(data[first:last])
        flat = torch.frombuffer(part, dtype=dtype) if part else torch.empty(0, dtype=dtype)
        tensors[name] = flat.view(shape)
    return tensors, metadata
