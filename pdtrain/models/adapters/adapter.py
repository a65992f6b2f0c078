"""Load a trained adapter onto its base, and refuse one that is damaged or of another model."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

from peft import PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pdtrain.config import RunConfig
from pdtrain.files.manifests import damaged_files, is_finished, manifest_of
from pdtrain.models.adapters.peft_settings import SETTINGS, read_settings
from pdtrain.models.base import load_tokenizer
from pdtrain.models.chat.chat_template import Chat, prove
from pdtrain.models.placement import load_whole
from pdtrain.storage import ADAPTER_WEIGHTS


def trained(config: RunConfig) -> Path:
    """Return the folder of the run's finished adapter; of its best round, if it has rounds.

    Raises:
        ValueError: training or the rounds after it have not finished, or a file is gone.
    """
    folder = config.run.adapter
    if not is_finished(folder):
        raise ValueError(
            f"{config.folder} has no trained adapter yet; run `pdtrain train CONFIG` first, or "
            "`pdtrain run CONFIG` for the whole line"
        )
    best = config.run.best_adapter
    if best is None:
        raise ValueError(
            f"the rounds of {config.folder} are not finished, or are of another adapter than the "
            "one that is there; run `pdtrain rounds CONFIG` first, or set rounds.most=0"
        )
    folder = best
    for name in (ADAPTER_WEIGHTS, SETTINGS):
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name} is missing; {_again(config, folder)}")
    refuse_damaged(folder, _again(config, folder))
    return folder


def refuse_damaged(folder: Path, remedy: str) -> None:
    """Check an adapter's files against the manifest in its folder, if there is one.

    Raises:
        ValueError: a file is not what was written; `remedy` ends the message.
    """
    for path, fault in damaged_files(folder, manifest_of(folder) or {}).items():
        raise ValueError(f"{path} is damaged ({fault}); {remedy}")


def load_trained(config: RunConfig) -> tuple[PeftModel, Chat]:
    """Return the base with the run's adapter on it, and the proved chat template.

    Raises:
        ValueError: training has not finished, or the adapter is damaged; see `load_adapter`.
    """
    return load_adapter(config, trained(config))


def load_adapter(config: RunConfig, folder: Path) -> tuple[PeftModel, Chat]:
    """Return the base with the adapter of a folder on it, and the proved chat template.

    Raises:
        ValueError: the adapter's file is damaged, holds values that are not finite, or other
            tensors than its settings call for; or these ask for more than LoRA layers. PEFT alone
            would warn and go on without them.
    """
    weights = folder / ADAPTER_WEIGHTS
    read_settings(folder, _again(config, folder))
    tensors = read_tensors(weights, _again(config, folder))
    tokenizer, base = load_tokenizer(config.model), load_whole(config.model)
    chat = prove(tokenizer, config.prompts, base.generation_config.eos_token_id)
    try:
        model = PeftModel.from_pretrained(base, str(folder)).eval()
    except RuntimeError:  # a size mismatch; torch lists every tensor
        raise ValueError(
            f"{folder} does not fit model.name={config.model.name!r}: its tensors have other "
            "sizes; name the model that it was trained on"
        ) from None
    expected = get_peft_model_state_dict(model, save_embedding_layers=False).keys()
    refuse_others(weights, tensors.keys(), expected, config, _again(config, folder))
    return model, chat


def read_tensors(path: Path, remedy: str) -> dict[str, Tensor]:
    """Return the tensors of an adapter's file, which must be safetensors, by name.

    Args:
        remedy: what to do where the file is bad; ends the error's message.

    Raises:
        ValueError: the file is damaged, or holds values that are not finite.
    """
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged ({error}); {remedy}") from None
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise ValueError(
            f"{path}: {len(broken)} of {len(tensors)} tensors hold values that are "
            f"not finite, {broken[0]} first; {remedy}"
        )
    return tensors


def refuse_others(
    path: Path, found: Set[str], expected: Set[str], config: RunConfig, remedy: str
) -> None:
    """Raise ValueError where a file's tensors are not exactly those of the adapter."""
    if different := expected ^ found:
        raise ValueError(
            f"{path} does not hold the tensors of its settings on model.name="
            f"{config.model.name!r}: {len(different)} differ, {min(different)} first; "
            f"name the model that it was trained on, or {remedy}"
        )


def _again(config: RunConfig, folder: Path) -> str:
    if folder != config.run.adapter:  # of a round
        return "run `pdtrain rounds CONFIG` again, which makes it again"
    return "run `pdtrain train CONFIG` again, which makes it again"
