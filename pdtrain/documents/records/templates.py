"""Fill in templates of a record's columns, such as "{title}\\n\\n{body}": names alone, no code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")


def fields_of(template: str) -> list[str]:
    """Return the names in a template, once each, in order."""
    return list(dict.fromkeys(found[1] for found in FIELD.finditer(template) if found[1]))


def columns_of(template: str, names: list[str]) -> list[str]:
    """Return those of a data set's columns that a template needs.

    Raises:
        ValueError: it names one that is not there.
    """
    found = {name: name if name in names else name.split(".")[0] for name in fields_of(template)}
    if missing := [name for name, column in found.items() if column not in names]:
        raise ValueError(
            f"expected a column {missing[0]!r}, found {', '.join(sorted(names))}; correct the name "
            "in the template"
        )
    return list(dict.fromkeys(found.values()))


def fill(template: str, record: Mapping[str, Any]) -> str:
    """Return the template with the record's values in the places of their names.

    `{meta.year}` is the value under `year` of the one under `meta`, unless a column has that whole
    name. A value that is null or NaN leaves its place empty, and where no name has a value, nothing
    is returned. Two braces stand for one.

    Raises:
        ValueError: the record has no such column, or a value that is no text and no number.
    """
    values = {name: _value(record, name) for name in fields_of(template)}
    if values and not any(values.values()):
        return ""

    def replaced(found: re.Match[str]) -> str:
        return values.get(found[1], found[0]) if found[1] else found[0][:1]

    return FIELD.sub(replaced, template).strip()


def _value(record: Mapping[str, Any], name: str) -> str:
    """Return the text of a value; empty for null and NaN."""
    value: Any = record
    for key in [name] if name in record else name.split("."):
        if value is None:
            return ""
        if not isinstance(value, Mapping) or key not in value:
            known = ", ".join(sorted(record))
            raise ValueError(f"expected a value under {name!r}, found {known}")
        value = value[key]
    if value is None or value != value:
        return ""
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return "\n".join(value)
    if not isinstance(value, str | int | float):
        kind = type(value).__name__
        raise ValueError(f"{name!r} holds {kind}, not a text, a number or a list of texts")
    return str(value)
