"""Keep two configs from working in one run folder."""

from __future__ import annotations

import os
from pathlib import Path

from pdtrain.config import RunConfig, stored
from pdtrain.progress import warn


def _is_copy(config: RunConfig, owner: str, made_in: str) -> bool:
    """Return whether a config is the owner's copy in a copied project.

    It has the owner's name then, and its run folder stands to it as another one does to the owner:
    the one that was copied. A folder that stands so to both of them is the owner's alone.

    Args:
        config: the config at hand.
        owner: the YAML file that made the run.
        made_in: the folder that the run was made in.
    """
    if os.path.basename(config.source) != os.path.basename(owner):
        return False
    folder = os.path.abspath(config.folder)
    place = os.path.relpath(folder, os.path.dirname(config.source))
    copied = os.path.normpath(os.path.join(os.path.dirname(owner), place))
    if copied == folder:
        return False
    if Path(config.source).read_bytes() == Path(owner).read_bytes():
        return os.path.isdir(copied)
    return os.path.normpath(made_in) == copied


def _is_same_file(one: str, other: str) -> bool:
    """Return whether two paths lead to one file in one folder, as where a home is also a link.

    A link to a file in another folder is another config: paths in it are relative to the link.
    """
    same_place = os.path.samefile(os.path.dirname(one), os.path.dirname(other))
    return same_place and os.path.samefile(one, other)


def refuse_another(config: RunConfig) -> None:
    """Check that a run folder is new, or was made by the same YAML file.

    A file that has been moved or deleted owns nothing any more, and its copy in a copied project
    goes on with the copied run. Configs that were made in Python have no file, so any of them may.

    Raises:
        ValueError: another YAML file, which is still there, made the folder.
    """
    if config.take_over or not config.source or not config.run.config_file.exists():
        return
    try:
        made = stored(config.folder)
    except ValueError as error:  # it is damaged, and is written again from the YAML file at hand
        warn(str(error))
        return
    owner = str(made.get("source") or "")
    is_mine = not owner or owner == config.source or not os.path.isfile(owner)
    is_mine = is_mine or _is_same_file(owner, config.source)
    if not is_mine and not _is_copy(config, owner, str(made.get("out_dir", ""))):
        raise ValueError(
            f"{config.folder} holds the run of {owner}, and this config is {config.source}; give "
            "this one another name or out_dir, or set take_over=true to go on in that folder, "
            "which overwrites what is there"
        )
