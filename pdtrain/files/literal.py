"""Take a stored config literally: `${...}` in it is text, and what would expand is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from pdtrain.progress import printable

MOST_BYTES = 1 << 20  # of a stored config


def refuse_expanding(path: Path) -> None:
    """Check that a stored config is of a size that `dump` writes, and has no aliases.

    A few lines of aliases of aliases would become more than any memory holds.

    Raises:
        ValueError: it is not.
    """
    if path.stat().st_size > MOST_BYTES:
        raise damaged(path, f"it is larger than {MOST_BYTES} bytes")
    try:
        events = yaml.parse(path.read_text(encoding="utf-8"), yaml.SafeLoader)
        has_aliases = any(isinstance(event, yaml.AliasEvent) for event in events)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise damaged(path, error) from None
    if has_aliases:
        raise damaged(path, "it holds aliases")


def damaged(path: Path, why: object) -> ValueError:
    """Return the error for a stored config that is not what pdtrain writes."""
    reason = printable(" ".join(str(why).split()))
    return ValueError(
        f"{path} is damaged, or not what pdtrain writes ({reason}); run the YAML file that made "
        "the run again, which writes it anew"
    )


def escaped(value: Any) -> Any:
    """Return the value with every `${` escaped, so that loading it does not resolve it again."""
    if isinstance(value, dict):
        return {k: escaped(v) for k, v in value.items()}
    if isinstance(value, list):
        return [escaped(v) for v in value]
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", value)
    return value


def unescaped(value: Any) -> Any:
    """Return the value as it was before `escaped`."""
    if isinstance(value, dict):
        return {k: unescaped(v) for k, v in value.items()}
    if isinstance(value, list):
        return [unescaped(v) for v in value]
    if isinstance(value, str):
        return re.sub(r"(\\+)\$\{", lambda found: found[1][: len(found[1]) // 2] + "${", value)
    return value
