"""Export an adapter as a PEFT folder with a model card and, where asked for, merged weights.

The folder is built beside its final place, loaded from there with plain transformers and PEFT, and
compared with the adapter that was trained; only then is it put in place. The base is loaded once:
the exported adapter takes the trained one's place on it. Merged weights are a model of their own,
which is loaded after the base is gone, over several GPUs where one is too small.
"""

from __future__ import annotations

import gc
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from pdtrain.config import EngineConfig, RunConfig
from pdtrain.files.durable import make_folder, naming, put_folder_in_place
from pdtrain.files.manifests import manifest_of
from pdtrain.models.adapters import learned_passages
from pdtrain.models.adapters.adapter import SETTINGS, load_trained, trained
from pdtrain.models.adapters.lora import adapter_off, refuse_shared
from pdtrain.models.architectures import served_class
from pdtrain.models.base import find_thinking, fingerprint, resolve
from pdtrain.models.chat.chat_template import Chat
from pdtrain.progress import say, warn
from pdtrain.reporting.exporting import model_card, reloading, serving
from pdtrain.stage import is_current, mark_finished, say_current
from pdtrain.storage import (
    ADAPTER_WEIGHTS,
    hash_json,
    read_json,
    sha256_file,
    sums,
    write_atomically,
    write_json,
)

# knobs of `questions` that the writer for capable models alone reads
BY_MODEL = (
    "model_per_sentence",
    "model_per_passage",
    "model_per_pair",
    "model_tokens",
    "language",
    "prompts",
)
VERSION = 2  # part of the input hash: raise it when the same adapter would be exported differently
MERGED = "merged/"  # the folder of merged weights


def write(config: RunConfig) -> None:
    """Write `export/`, after it was loaded and compared with the trained adapter."""
    source, folder = trained(config), config.run.export
    inputs = inputs_hash(config, source)
    if is_current(folder, inputs) and _is_whole(folder):
        say_current("export", folder)
        serving.check(config)
        return
    _say_vllm_rank(read_json(source / SETTINGS)["r"])
    temporary = config.folder / ".export.tmp"
    shutil.rmtree(temporary, ignore_errors=True)  # a killed run may have left it
    make_folder(temporary)
    try:
        with naming(temporary):
            _write_and_verify(config, source, temporary)
        names = [
            str(path.relative_to(temporary))
            for path in sorted(temporary.rglob("*.*"))
            if path.is_file()
        ]
        merged = [name for name in names if name.startswith(MERGED)]
        own = [name for name in names if name not in merged]
        sizes = {name: (temporary / name).stat().st_size for name in merged}
        mark_finished(temporary, inputs, own, sizes=sizes, merged=sums(temporary, merged))
        put_folder_in_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    say(f"export: loads with plain transformers and PEFT, logits agree ({folder})")
    gc.collect()  # the base goes before another engine loads it
    serving.check(config)


def inputs_hash(config: RunConfig, source: Path) -> str:
    """Return one hash of everything that decides what the folder holds, its card included."""
    scores, learned = config.run.scores_file, source / learned_passages.DOCUMENTS
    ignored = {"out_dir", "corpus", "evaluate", *(() if config.rounds.most else ("rounds",))}
    return hash_json(
        [
            VERSION,
            [sha256_file(source / name) for name in (ADAPTER_WEIGHTS, SETTINGS)],
            [resolve(config.model), fingerprint(config.model)],
            {k: v for k, v in _settings(config).items() if k not in ignored},
            sha256_file(scores) if scores.exists() else None,
            config.run.are_scores_stale(source),
            *([sha256_file(learned)] if learned.exists() else []),
            *([asdict(_training_manifests(config, source))] if config.rounds.most else []),
        ]
    )


def _settings(config: RunConfig) -> dict[str, Any]:
    """Return the config without what says only how a run is planned, made and checked.

    Such is what `auto` became, and which engine wrote the answers.
    """
    train = replace(config.train, gradient_checkpointing="auto")
    found = asdict(replace(config, engine=EngineConfig(), train=train))
    del found["generation"], found["export"]["check"], found["plan"]["data"]
    if config.questions.writer == "sentence":  # what the other writer knows has no part in it
        for name in ("writer", *BY_MODEL):
            del found["questions"][name]
    return found


def _is_whole(folder: Path) -> bool:
    """Tell whether merged weights, which may be hundreds of GB, have their sizes.

    `is_current` compares all other files with their hashes, and `pdtrain verify` these too.
    """
    manifest = manifest_of(folder) or {}
    found = {
        name: (folder / name).stat().st_size if (folder / name).is_file() else None
        for name in manifest.get("sizes", {})
    }
    return "sizes" in manifest and found == manifest["sizes"]


def _say_vllm_rank(rank: int) -> None:
    most = max(model_card.VLLM_RANKS)
    if rank > most:
        say(
            f"export: vLLM serves adapters up to rank {most}, this one has {rank}; "
            "set export.merge=true to serve merged weights"
        )
    elif rank > 16:  # vLLM's default
        say(
            f"export: to serve rank {rank}, vLLM needs --max-lora-rank {model_card.vllm_rank(rank)}"
        )


def _write_and_verify(config: RunConfig, source: Path, folder: Path) -> None:
    """Write all files into `folder` and compare what loads from there with the trained adapter.

    One model is held at a time, so that machines which the base fits once are enough.
    """
    model, chat = load_trained(config)
    prompt = chat.student(reloading.PROMPT)
    wanted_LV = reloading.logits(model, prompt)
    with adapter_off(model):
        if torch.equal(wanted_LV, reloading.logits(model, prompt)):
            warn("export: the adapter changes nothing: it was trained for no step or for 0")
    chat.tokenizer.save_pretrained(str(folder))
    _copy_adapter(config, source, folder)
    table = config.run.scores() if config.run.scores_file.exists() else None
    if table and config.run.are_scores_stale(source):
        warn("export: the scores are of another adapter and left off the card; run evaluate first")
        table = None
    manifests = _training_manifests(config, source)
    thinking = find_thinking(config.model)
    card = model_card.render(
        config,
        read_json(folder / SETTINGS),
        table,
        manifests,
        thinking,
        wrapper.__name__ if (wrapper := served_class(model.config)) else "",
    )
    write_atomically(folder / "README.md", card)
    model = reloading.verify_adapter(config, folder, chat, wanted_LV, model.unload())
    if config.export.merge:
        _write_merged(model, chat, folder / "merged")
        del model
        gc.collect()
        reloading.verify_merged(config, folder / "merged", chat, wanted_LV)


def _training_manifests(config: RunConfig, source: Path) -> model_card.TrainingManifests:
    """Return the manifests of the run's training and of the rounds up to the exported one."""
    own = config.run.adapter
    last = 0 if source == own else int(source.parent.name)
    rounds = [config.run.round(number).adapter for number in range(1, last + 1)]
    first, *others = [manifest_of(folder) or {} for folder in (own, *rounds)]
    learned = learned_passages.read(own)
    return model_card.TrainingManifests(first, others, bool(learned and learned.started_from))


def _copy_adapter(config: RunConfig, source: Path, folder: Path) -> None:
    """Copy the trained files, and name the base so that it is found from any working folder."""
    shutil.copyfile(source / ADAPTER_WEIGHTS, folder / ADAPTER_WEIGHTS)
    settings = read_json(source / SETTINGS)
    if settings.get("modules_to_save"):
        raise ValueError(
            f"{source / SETTINGS} has modules_to_save={settings['modules_to_save']}: whole layers, "
            "which vLLM does not serve; an export holds LoRA layers alone"
        )
    settings |= {
        "base_model_name_or_path": reloading.base_name(config),
        "revision": config.model.revision,
    }
    write_json(folder / SETTINGS, settings | {"inference_mode": True})
    if (source / learned_passages.DOCUMENTS).exists():  # for training that goes on from the export
        shutil.copyfile(source / learned_passages.DOCUMENTS, folder / learned_passages.DOCUMENTS)


def _write_merged(model: PeftModel, chat: Chat, folder: Path) -> None:
    """Write the base with the adapter merged, in the dtype that the run used.

    Raises:
        ValueError: layers share a weight, as Zamba 2's do, but each has an adapter of its own.
    """
    refuse_shared(model)
    merged = model.merge_and_unload(safe_merge=True)  # refuses values that are not finite
    merged.save_pretrained(str(folder))
    chat.tokenizer.save_pretrained(str(folder))
    for path in folder.glob("*.safetensors"):
        # safetensors makes files that only their owner may read; another user may serve the model
        shutil.copymode(folder / "config.json", path)
