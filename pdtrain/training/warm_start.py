"""Find, check and load the adapter that training goes on from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import Tensor

from pdtrain.config import RunConfig, require
from pdtrain.models.adapters import learned_passages
from pdtrain.models.adapters.adapter import read_tensors, refuse_damaged, refuse_others
from pdtrain.models.adapters.learned_passages import LearnedPassages
from pdtrain.models.adapters.peft_settings import SETTINGS, read_settings
from pdtrain.models.base import resolve
from pdtrain.models.model_files import name_of
from pdtrain.progress import warn
from pdtrain.storage import ADAPTER_WEIGHTS, sha256_file

FROM_SCRATCH = "set train.start='' to train from scratch"


@dataclass(frozen=True)
class WarmStart:
    """Hold the trained adapter that training goes on from; it was found and checked.

    Args:
        folder: the adapter's folder, in PEFT's format.
        hashes: SHA-256 of its weights, and of the record of what it has learned if it has one.
        learned: the passages that it has learned; None where that is not known.
    """

    folder: Path
    hashes: tuple[str, str | None]
    learned: LearnedPassages | None


def of_config(config: RunConfig) -> WarmStart | None:
    """Return the warm start that `train.start` names; None where it is empty.

    Raises:
        ValueError: there is no adapter, it is this run's own, or its shape is not that of the
            config's `adapter`.
    """
    if not config.train.start:
        return None
    found = Path(config.train.start).expanduser()
    own = [path.resolve() for path in (config.run.adapter, config.run.export)]
    require(
        found.resolve() not in own
        and not found.resolve().is_relative_to(config.run.rounds_folder.resolve()),
        f"train.start={config.train.start} is what this run itself writes; copy the folder, and "
        "name the copy",
    )
    return of_folder(found, config)


def of_folder(folder: Path, config: RunConfig) -> WarmStart:
    """Return the adapter in a folder as a warm start.

    Raises:
        ValueError: there is no adapter, or its shape is not that of the config's `adapter`.
    """
    for name in (ADAPTER_WEIGHTS, SETTINGS):
        require(
            (folder / name).is_file(),
            f"train.start={folder}: {folder / name} is not there; expected the folder "
            f"of a trained adapter, such as a copy of runs/NAME/export; or {FROM_SCRATCH}",
        )
    refuse_damaged(folder, f"copy the folder again, or {FROM_SCRATCH}")
    _refuse_other_shape(folder, _settings(folder), config)
    record = folder / learned_passages.DOCUMENTS
    return WarmStart(
        folder,
        (sha256_file(folder / ADAPTER_WEIGHTS), sha256_file(record) if record.is_file() else None),
        learned_passages.read(folder),
    )


def _settings(found: Path) -> dict[str, Any]:
    """Return PEFT's settings of an adapter."""
    return read_settings(found, f"copy the folder again, or {FROM_SCRATCH}")


def other_base(folder: Path, config: RunConfig) -> str:
    """Return the name of the base that an adapter was trained on, if it is not this run's.

    It is empty otherwise. Only the last part of the name is compared: folders move, and a model of
    the hub may be a folder elsewhere, or another snapshot in the hub's cache.
    """
    theirs, own = _settings(folder).get("base_model_name_or_path"), resolve(config.model)
    if not isinstance(theirs, str) or not theirs:
        return ""
    last, wanted = (name_of(Path(name)).rpartition("/")[2] for name in (theirs, own))
    return "" if last == wanted else last


def _refuse_other_shape(found: Path, settings: dict[str, Any], config: RunConfig) -> None:
    own = config.adapter
    for name, key, wanted in (("rank", "r", own.rank), ("alpha", "lora_alpha", own.alpha)):
        require(
            settings.get(key) == wanted,
            f"train.start={found} has rank {settings.get('r')} and alpha "
            f"{settings.get('lora_alpha')}, this config adapter.{name}={wanted}; set adapter.rank "
            f"and adapter.alpha as the start has them, or {FROM_SCRATCH}",
        )


def weights(start: WarmStart, config: RunConfig, model: PeftModel) -> dict[str, Tensor]:
    """Return the start's weights in fp32, under their names in the twin.

    Args:
        start: the adapter to go on from.
        config: the run's config, which error messages name.
        model: the base with a new adapter on it, whose weights are whole on every rank.

    Raises:
        ValueError: the file is damaged, or holds other weights than this adapter has.
    """
    folder = start.folder
    if other := other_base(folder, config):
        warn(
            f"train: train.start={folder} was trained on {other}, and model.name is "
            f"{Path(resolve(config.model)).name}: an adapter is of use on its own base alone"
        )
    own = {name: p.shape for name, p in model.named_parameters() if p.requires_grad}
    names = {name.replace(".default.", "."): name for name in own}  # PEFT leaves it out in files
    path = folder / ADAPTER_WEIGHTS
    tensors = read_tensors(path, f"copy it again, or {FROM_SCRATCH}")
    remedy = f"set adapter.target_modules as it had them, or {FROM_SCRATCH}"
    refuse_others(path, tensors.keys(), names.keys(), config, remedy)
    misfits = [key for key, name in names.items() if tensors[key].shape != own[name]]
    require(
        not misfits,
        f"{path} does not fit model.name={config.model.name!r}: {len(misfits)} tensors have other "
        f"sizes, {min(misfits, default='')} first; name the model that it was trained on, or "
        f"{FROM_SCRATCH}",
    )
    return {f"model.{name}": tensors[key].float() for key, name in names.items()}
