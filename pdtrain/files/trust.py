"""Take from a run folder no setting that could run code or send secrets, unless it is repeated.

Run folders pass from hand to hand, and whoever made one wrote its config. What its config asks for
counts as data; a setting that lets a program do more than compute counts only where the user, who
has been shown it, repeats it on the command line.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pdtrain.progress import printable

# names of knobs, in whatever section: code of a model's author, an address that text is sent to,
# and the environment variable whose value goes with it. An address counts in every other knob too
LEAVES = {"trust_remote_code", "url", "key_variable"}
SECTIONS = {"deepspeed"}  # keys of another program, some of which name files or addresses
MOST_FOLDERS = 50  # inside one another, in a run folder
FREE_TEXT = {"notes", "source", "prompts"}  # which nothing opens, whatever it spells
USUAL = {"key_variable": "OPENAI_API_KEY"}  # what the schema's default sends, and to no address


def asked(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the settings of a stored config that count only when repeated, by dotted key."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if name in FREE_TEXT:
            continue
        if key in LEAVES or name in SECTIONS:
            if value and value != USUAL.get(key):
                found[name] = value
        elif isinstance(value, Mapping):
            found |= asked(value, f"{name}.")
        elif _has_address(value):
            found[name] = value
    return found


def _has_address(value: Any) -> bool:
    """Tell whether a setting, or one of a list, names a place on another machine: `s3://…`."""
    if isinstance(value, list):
        return any(map(_has_address, value))
    return isinstance(value, str) and "://" in value


def without_unrepeated(values: Mapping[str, Any], repeated: Sequence[str]) -> dict[str, Any]:
    """Return a stored config without the settings that count only when repeated, and were not.

    Args:
        values: the config as it was stored.
        repeated: `key=value` texts of the command line.

    Raises:
        ValueError: one of them repeats nothing that the config asks for.
    """
    asks = asked(values)
    texts = {f"{key}={as_text(value)}" for key, value in asks.items()}
    if unknown := [one for one in repeated if one not in texts]:
        raise ValueError(
            "a run folder is taken as it was made; give the YAML to change keys"
            + (f" (what it asks for and may be repeated: {_shell(asks)})" if asks else "")
            + (f"; {printable(unknown[0])!r} is not among it" if asks else "")
        )
    refused = {key for key, value in asks.items() if f"{key}={as_text(value)}" not in repeated}
    return _without(values, refused, "")


def _without(values: Mapping[str, Any], refused: set[str], prefix: str) -> dict[str, Any]:
    """Return nested settings without some of them, whose defaults take their place."""
    return {
        key: _without(value, refused, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in values.items()
        if f"{prefix}{key}" not in refused
    }


def unrepeated(folder: Path | str, values: Mapping[str, Any], repeated: Sequence[str]) -> str:
    """Return a line that shows what a run folder asks for and does not get; empty for nothing."""
    asks = {k: v for k, v in asked(values).items() if f"{k}={as_text(v)}" not in repeated}
    if not asks:
        return ""
    return (
        f"{folder} asks for settings that count only when repeated, for they may run code or send "
        f"text and keys elsewhere: {_shell(asks)}; where you trust them, add them to the command"
    )


def as_text(value: Any) -> str:
    """Return a value as it stands behind `key=` on the command line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _shell(asks: Mapping[str, Any]) -> str:
    return " ".join(shlex.quote(printable(f"{key}={as_text(v)}")) for key, v in asks.items())


def own_file(folder: Path, name: object) -> Path:
    """Return the path of a file that a manifest of the folder names.

    Raises:
        ValueError: the name leads out of the folder, or the file is a link.
    """
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or os.sep in name:
        raise ValueError(
            f"{folder / 'manifest.json'} names {printable(str(name))!r}, which is no file of its "
            "folder; the folder was changed after it was written, or is not to be trusted"
        )
    path = folder / name
    if path.is_symlink():
        raise ValueError(f"{path} is a link; put the file itself there, or run the stage again")
    return path


def leads_out(folder: Path, name: object) -> bool:
    """Tell whether a name in a manifest leads out of its folder, perhaps by a link."""
    if not isinstance(name, str) or os.path.isabs(name):
        return True
    parts = Path(name).parts
    places = (folder.joinpath(*parts[: i + 1]) for i in range(len(parts)))
    return not parts or ".." in parts or any(place.is_symlink() for place in places)


def refuse_links(folder: Path) -> None:
    """Check that a run folder holds files and folders alone.

    Through a link other files would be written, and a pipe would be waited for without end. The
    run folder itself may be a link.

    Raises:
        ValueError: there is something else; the message names the first.
    """
    for path, what in strangers(folder):
        raise ValueError(
            f"{printable(str(path))} is {what}, which no run makes; move it away, or put what it "
            "leads to in its place. To have a run on another disk, set out_dir"
        )


def strangers(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield what no run makes in a folder, and what it is: anything but files and folders.

    Nothing is opened, and no link is followed.
    """
    below: list[tuple[str, int]] = [(str(folder), 0)]
    while below:
        above, depth = below.pop()
        if depth > MOST_FOLDERS:
            yield Path(above), f"a folder inside more than {MOST_FOLDERS} others"
            continue
        try:
            entries = sorted(os.scandir(above), key=lambda entry: entry.name)
        except FileNotFoundError:  # removed since, or not there yet
            continue
        for entry in entries:
            if entry.is_symlink():
                yield Path(entry.path), f"a link to {printable(os.readlink(entry.path))!r}"
            elif entry.is_dir(follow_symlinks=False):
                below.append((entry.path, depth + 1))
            elif not entry.is_file(follow_symlinks=False):
                yield Path(entry.path), "no file and no folder but a pipe, a socket or a device"
