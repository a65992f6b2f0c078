"""Stand in for OmegaConf where it is not installed, so that `pdtrain.config` can be imported.

Configs can then be made from dataclasses. Whoever reads a YAML file or merges overrides gets the
error of a package that is missing.
"""

from __future__ import annotations

from typing import NoReturn


class _Missing(type):
    def __getattr__(cls, name: str) -> NoReturn:
        if name.startswith("__"):  # Python asks any class for such
            raise AttributeError(name)
        raise ModuleNotFoundError("No module named 'omegaconf'", name="omegaconf")


class DictConfig(metaclass=_Missing):
    """Stand in for a config that was read; there are none."""


class ListConfig(metaclass=_Missing):
    """Stand in for a list in a config that was read; there are none."""


class OmegaConf(metaclass=_Missing):
    """Stand in for all functions that read, merge and write configs."""
