"""Keep two configs from working in one run folder."""

from __future__ import annotations

import os

from pdtrain.config import RunConfig, load_run


def refuse_another(config: RunConfig) -> None:
    """Check that a run folder is new, or was made by the same YAML file.

    A file that has been moved or deleted owns nothing any more. Configs that were made in Python
    have no file and are not told apart.

    Raises:
        ValueError: another YAML file, which is still there, made the folder.
    """
    if config.take_over or not config.source or not config.run.config_file.exists():
        return
    try:
        owner = load_run(config.folder).source
    except ValueError:  # of another version
        return
    if owner and owner != config.source and os.path.exists(owner):
        raise ValueError(
            f"{config.folder} holds the run of {owner}, and this config is {config.source}; give "
            "this one another name or out_dir, or set take_over=true to go on in that folder, "
            "which overwrites what is there"
        )
