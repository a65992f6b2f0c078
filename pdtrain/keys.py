"""Check the keys of a config against the schema, and suggest the one that may be meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from pdtrain.schema import RunConfig

# names of our knobs in other trainers; the error for such a key suggests ours
KNOWN_ELSEWHERE = {
    "model_name_or_path": "model.name",
    "output_dir": "out_dir",
    "num_train_epochs": "train.epochs",
    "per_device_train_batch_size": "train.answers_per_micro_batch",
    "gradient_accumulation_steps": "train.answers_per_step",
    "lr": "train.learning_rate",
    "learning_rate": "train.learning_rate",
    "lr_scheduler_type": "train.scheduler",
    "warmup_ratio": "train.warmup_ratio",
    "max_grad_norm": "train.max_grad_norm",
    "lora_r": "adapter.rank",
    "lora_rank": "adapter.rank",
    "lora_alpha": "adapter.alpha",
    "lora_dropout": "adapter.dropout",
    "topk": "loss.top_k",
    "gkd_logits_topk": "loss.top_k",
    "distillation_topk": "loss.top_k",
    "temperature": "loss.temperature",
}
LONGEST_KEY = 60  # characters; all of ours are shorter
CONTAINERS = {list: "a list, such as [a, b]", dict: "a mapping, such as {a: 1}"}


def check_keys(source: str, values: Any, schema: Any, prefix: str) -> None:
    """Raise ValueError for a key that no dataclass has, and suggest the nearest one."""
    known = {f.name: f for f in fields(schema)}
    if not isinstance(values, dict):
        raise ValueError(f"{source}: {prefix.rstrip('.')} must be a mapping of {', '.join(known)}")
    for key, value in values.items():
        if key not in known:
            shown = key if str(key).isprintable() else ascii(key)
            if len(str(shown)) > LONGEST_KEY:  # perhaps of a document, no text of which is shown
                shown = f"of {len(str(key))} characters"
            raise ValueError(
                f"{source}: unknown key {prefix}{shown}{_suggestion(str(key), prefix)}"
            )
        if value == "???":  # OmegaConf would take the default without a word
            raise ValueError(f"{source}: {prefix}{key} is ???: put a value in its place")
        default = _default_of(known[key])
        if is_dataclass(default) and value is not None:
            check_keys(source, value, type(default), f"{prefix}{key}.")
        for kind, words in CONTAINERS.items():
            if isinstance(default, kind) and not isinstance(value, kind) and value is not None:
                raise ValueError(f"{source}: {prefix}{key} must be {words}, not {value!r:.60}")


def _default_of(field_: Any) -> Any:
    factory = field_.default_factory
    return factory() if callable(factory) else field_.default


def all_keys(schema: Any = RunConfig, prefix: str = "") -> list[str]:
    """Return every key in dotted form, as the command line takes it."""
    keys = []
    for f in fields(schema):
        default = _default_of(f)
        if is_dataclass(default):
            keys += all_keys(type(default), f"{prefix}{f.name}.")
        else:
            keys.append(prefix + f.name)
    return keys


def empty_parts(
    values: Any, schema: Any = RunConfig, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys of sections, lists and mappings that are null, and the empty ones.

    So YAML reads `train:` where every line below it is a comment.
    """
    for f in fields(schema):
        default = _default_of(f)
        if f.name not in values or not (is_dataclass(default) or isinstance(default, list | dict)):
            continue
        if values[f.name] is None:
            yield prefix + f.name, [] if isinstance(default, list) else {}
        elif is_dataclass(default):
            yield from empty_parts(values[f.name], type(default), f"{prefix}{f.name}.")


def text_keys() -> list[str]:
    """Return every key, in dotted form, whose value is a text."""
    return [key for key in all_keys() if is_text(key, "")]


def is_text(key: str, value: str) -> bool:
    """Return whether a knob, in dotted form, is a text, for which no value but itself is meant."""
    if key == "corpus.documents":
        return not value.lstrip().startswith("[")  # a list of texts otherwise
    schema: Any = RunConfig
    *sections, last = key.split(".")
    for section in sections:
        schema = get_type_hints(schema).get(section)
        if not is_dataclass(schema):
            return False
    kind = get_type_hints(schema).get(last)
    return kind is str or (kind == str | None and value not in ("null", "~"))


def _suggestion(key: str, prefix: str) -> str:
    """Return the end of the error message for an unknown key: the key that may be meant."""
    keys = all_keys()
    sections = {k.split(".")[0] for k in keys}
    if key in keys and not prefix:  # a dotted key, as the command line takes it
        section, _, last = key.partition(".")
        nested = ": {".join(last.split(".")) + ": …" + "}" * last.count(".")
        return f"; in a file sections hold their keys: `{section}: {{{nested}}}`"
    if key in KNOWN_ELSEWHERE:
        return f"; did you mean {KNOWN_ELSEWHERE[key]}?"
    others = sections - {prefix.rstrip(".")}
    near = difflib.get_close_matches(prefix + key, [*keys, *others], 1, 0.6)
    if not near:  # perhaps the right name in the wrong section
        by_leaf = {k.split(".")[-1]: k for k in keys}
        leaf = difflib.get_close_matches(key, by_leaf, 1, 0.75)
        near = [by_leaf[leaf[0]]] if leaf else []
    if near:
        return f"; did you mean {near[0]}?"
    inside = [k for k in keys if k.startswith(prefix)] if prefix else sorted(sections)
    return f"; known: {', '.join(inside)}"
