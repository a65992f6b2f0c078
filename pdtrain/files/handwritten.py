"""Take the YAML of a person as it is meant: texts as they stand, and faults with their place."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

NULL = "tag:yaml.org,2002:null"
VARIABLE = re.compile(r"(?:^|/)\$\{?([A-Za-z_]\w*)\}?(?=/|$)")  # as shells write it


def fault(error: Exception) -> str:
    """Return what is wrong with a YAML file, and where, in a line; no value is shown."""
    if isinstance(error, UnicodeError):
        return "it is not UTF-8; save it as UTF-8"
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if not problem or mark is None:
        return str(error).strip().splitlines()[0]
    if "cannot start any token" in problem:
        problem += "; indent with blanks, not with tabs, and put quotes round texts with signs"
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


def misfit(error: Exception) -> str:
    """Return why a value does not fit its key, in a line."""
    why = str(error).strip().splitlines()[0]
    if "nterpolation" in why:
        return (
            f"{why}; ${{name}} stands for another key, ${{oc.env:HOME}} for a variable of the "
            "environment, and \\${ for the signs themselves"
        )
    if "value 'None'" in why:
        return "nothing stands behind it; give it a value, or leave it out"
    if "ListConfig" in why:
        return "expected a text, and a list came; write one text, such as 'a,b'"
    return why


def is_one_text(path: Path) -> bool:
    """Tell whether a YAML file is but a text, as a document is, of which OmegaConf makes a key."""
    root = yaml.compose(path.read_text(encoding="utf-8-sig"), yaml.SafeLoader)
    return isinstance(root, yaml.ScalarNode) and root.tag != NULL


def texts(path: Path, keys: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the texts that stand without quotes, with their dotted keys.

    YAML takes some of them for something else, but a name `0123` or `1.10`, a revision `12e4567`
    and a language `no` are meant as they are written.

    Args:
        path: of a file that is known to be YAML.
        keys: whose values are texts, in dotted form.
    """
    root = yaml.compose(path.read_text(encoding="utf-8-sig"), yaml.SafeLoader)
    for key in keys:
        node = root
        for name in key.split("."):
            node = _child(node, name)
        if isinstance(node, yaml.ScalarNode) and node.style is None and node.tag != NULL:
            yield key, node.value


def _child(node: Any, name: str) -> Any:
    """Return the value of a key; None where there is none."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for key, value in pairs if key.value == name), None)


def refuse_variables(key: str, value: Any) -> None:
    """Check that a path, or each of a list of paths, holds no variable as shells write it.

    Nobody expands it here, and a run would be written to a folder called `$HOME`. The home of
    somebody is expanded, if it is known.

    Raises:
        ValueError: it does, and no such path exists, or it begins with a home that is not known.
    """
    for path in [value] if isinstance(value, str) else value or ():
        home = path.partition("/")[0] if isinstance(path, str) and path.startswith("~") else ""
        if home and os.path.expanduser(home) == home:
            raise ValueError(
                f"{key} begins with {home}, and no such home is known here; write the path itself"
            )
        found = VARIABLE.search(path) if isinstance(path, str) else None
        if found and not os.path.lexists(path[: found.end()]):
            raise ValueError(
                f"{key} holds ${found[1]}, which only a shell expands; write "
                f"${{oc.env:{found[1]}}} in a file or in single quotes, or the path itself"
            )
