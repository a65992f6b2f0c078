"""Load a run's config from YAML and command line, and write it back.

The command line overrides the file, and the file overrides the defaults; a YAML file lists only
what differs from them. Paths of inputs in a file are relative to that file, and those on the
command line to the working folder. `schema` defines the knobs.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pdtrain.files import handwritten, literal, trust
from pdtrain.keys import check_keys, empty_parts, is_text, text_keys
from pdtrain.schema import (
    AdapterConfig,
    AnswerConfig,
    CorpusConfig,
    DataPlanConfig,
    EngineConfig,
    EvaluateConfig,
    ExportConfig,
    GenerationConfig,
    JudgeConfig,
    LossConfig,
    ModelConfig,
    PlanConfig,
    PromptConfig,
    QuestionConfig,
    RawTextConfig,
    RetainConfig,
    RolloutConfig,
    RoundsConfig,
    RunConfig,
    SamplingConfig,
    ServerConfig,
    TeacherConfig,
    TrainConfig,
    VllmConfig,
    require,
)
from pdtrain.storage import write_atomically

__all__ = [
    "AdapterConfig",
    "AnswerConfig",
    "CorpusConfig",
    "DataPlanConfig",
    "EngineConfig",
    "EvaluateConfig",
    "ExportConfig",
    "GenerationConfig",
    "JudgeConfig",
    "LossConfig",
    "ModelConfig",
    "PlanConfig",
    "PromptConfig",
    "QuestionConfig",
    "RawTextConfig",
    "RetainConfig",
    "RolloutConfig",
    "RoundsConfig",
    "RunConfig",
    "SamplingConfig",
    "ServerConfig",
    "TeacherConfig",
    "TrainConfig",
    "VllmConfig",
    "as_asked",
    "as_yaml",
    "dump",
    "from_dict",
    "load",
    "load_run",
    "require",
]


INPUT_PATHS = (
    ("corpus", "documents"),
    ("questions", "given"),
    ("questions", "prompts"),
    ("train", "start"),
    ("evaluate", "questions"),
    ("evaluate", "unrelated"),
    ("evaluate", "reading"),
)
MODELS = ("model.name", "evaluate.dense")  # names on the hub, or paths that begin with a dot


def load(path: Path | str, overrides: list[str] | None = None) -> RunConfig:
    """Return the config of a YAML file, with overrides.

    Args:
        path: of the YAML file.
        overrides: `key=value` texts such as "train.epochs=3".

    Raises:
        ValueError: the file is not there, a key is unknown, or a value has a wrong type or is out
            of range.
    """
    path = Path(path)
    if not path.is_file():
        near = difflib.get_close_matches(
            str(path), map(str, Path("configs").glob("*.yaml")), 1, 0.5
        )
        hint = f"; did you mean {near[0]}?" if near else "; `ls configs/` shows the bundled ones"
        raise ValueError(f"config {path} is not a file{hint}")
    source = f"config {path}"
    try:
        file = OmegaConf.load(path)
    except ImportError:  # a package that OmegaConf reads YAML by is missing: not the file's fault
        raise
    except OSError as error:
        raise ValueError(
            f"{source} cannot be read ({error.strerror}); put that right, and where the working "
            "folder was deleted, go to another one first"
        ) from None
    except Exception as error:  # the YAML parser has many error types
        raise ValueError(f"{source} is not valid YAML: {handwritten.fault(error)}") from None
    if not isinstance(file, DictConfig) or handwritten.is_one_text(path):
        raise ValueError(f"{source} must be a mapping such as `train: {{epochs: 3}}`")
    check_keys(source, OmegaConf.to_container(file), RunConfig, "")
    for key, text in handwritten.texts(path, text_keys()):
        OmegaConf.update(file, key, text)
    try:
        _place(file, path.parent)
    except OmegaConfBaseException as error:
        raise _refusal(source, error) from None
    for override in overrides or []:
        if "=" not in override:
            raise ValueError(
                f"{override!r} is not an override; expected key=value, such as train.epochs=3"
            )
    own = OmegaConf.create({"name": path.stem, "source": os.path.abspath(path)})
    given = OmegaConf.merge(*([{}, *map(_override, overrides or [])]))
    config = _build(source, own, file, given)
    for key in (*map(".".join, INPUT_PATHS), *MODELS, "out_dir"):
        handwritten.refuse_variables(key, attrgetter(key)(config))
    return config


def _place(file: DictConfig, folder: Path) -> None:
    """Let inputs that a file names by a relative path lie beside it."""
    for key in map(".".join, INPUT_PATHS):
        if value := OmegaConf.select(file, key):
            OmegaConf.update(file, key, _each(value, folder.joinpath))
    for key in MODELS:
        if isinstance(name := OmegaConf.select(file, key), str) and name.startswith("."):
            OmegaConf.update(file, key, str((folder / name).resolve()))


def _override(text: str) -> Any:
    """Return a `key=value` of the command line as a part of a config.

    The value is YAML, but where the knob is a text it is taken as it was typed, unless it stands in
    quotes: a folder may be called `docs #1`, and a run `0123`.
    """
    key, _, value = text.partition("=")
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    if value == "" or (is_text(key, value) and not is_quoted):
        value = json.dumps(value, ensure_ascii=False)
    try:
        return OmegaConf.from_dotlist([f"{key}={value}"])
    except ImportError:
        raise
    except Exception as error:  # values are YAML, whose parser has many error types
        raise ValueError(
            f"the value of {key} is not valid YAML: {_one_line(error)}; put quotes round texts "
            """that hold signs, such as '["*.bak"]'"""
        ) from None


def from_dict(values: dict[str, Any]) -> RunConfig:
    """Return the config of a dictionary, such as a run's stored config, with the same checks."""
    return _build("config", OmegaConf.create(values))


def from_yaml(text: str) -> RunConfig:
    """Return the config that `as_yaml` wrote, with the same checks."""
    return _build("config", OmegaConf.create(text))


def load_run(folder: Path | str, repeated: Sequence[str] = ()) -> RunConfig:
    """Return the config that a run folder was made with.

    It is data: nothing in it is resolved. Settings that could run code or send secrets are those of
    the defaults unless they are repeated; see `trust`.

    Args:
        folder: the run folder.
        repeated: `key=value` texts of settings that the folder asks for.

    Raises:
        ValueError: the folder holds no run, or does not ask for what is repeated.
    """
    values = trust.without_unrepeated(stored(folder), repeated)
    trust.refuse_links(Path(folder))
    # the folder may have moved since the run was made
    return from_dict(cast(dict[str, Any], literal.escaped(values | {"out_dir": str(folder)})))


def stored(folder: Path | str) -> dict[str, Any]:
    """Return what a run folder holds of the config that it was made with, as it was written then.

    Every text is taken literally: `${...}` in it is text.

    Raises:
        ValueError: the folder holds no run, or its config is not what `dump` writes.
    """
    path = Path(folder) / "config.yaml"
    if not path.is_file():
        raise ValueError(
            f"{folder} is not a run folder: it has no config.yaml; `pdtrain run CONFIG` makes one"
        )
    literal.refuse_expanding(path)
    try:
        found = OmegaConf.to_container(OmegaConf.load(path))
    except ImportError:
        raise
    except Exception as error:  # the YAML parser has many error types
        raise literal.damaged(path, error) from None
    if not isinstance(found, dict):
        raise literal.damaged(path, "it is no mapping")
    return cast(dict[str, Any], literal.unescaped(found))


def dump(config: RunConfig, path: Path, comments: Sequence[str] = ()) -> None:
    """Write the resolved config, every default included, with absolute paths of inputs.

    Args:
        comments: lines that stand above it.
    """
    write_atomically(path, "".join(f"# {line}\n" for line in comments) + as_yaml(config))


def as_yaml(config: RunConfig) -> str:
    """Return the resolved config as YAML, with absolute paths of inputs."""
    values = cast(dict[str, Any], literal.escaped(asdict(config)))
    for section, key in INPUT_PATHS:
        if values[section][key]:
            values[section][key] = _each(values[section][key], os.path.abspath)
    return OmegaConf.to_yaml(OmegaConf.create(values))


def as_asked(config: RunConfig, asked: RunConfig) -> RunConfig:
    """Return the config with `auto` wherever another one leaves a choice by GPUs to it."""
    engine, train = config.engine, config.train
    if asked.engine.zero_stage == "auto":
        engine = replace(engine, zero_stage="auto")
    if asked.train.gradient_checkpointing == "auto":
        train = replace(train, gradient_checkpointing="auto")
    return replace(config, engine=engine, train=train)


def store(config: RunConfig) -> None:
    """Write the config into the run folder, but for what stands there in the place of `auto`."""
    is_same = False
    if config.is_automatic and config.run.config_file.exists():
        try:
            found = replace(load_run(config.folder), out_dir=config.out_dir)
            is_same = as_yaml(as_asked(found, config)) == as_yaml(config)
        except ValueError:  # of another version
            pass
    if not is_same:
        dump(config, config.run.config_file)


def _each(value: Any, change: Callable[[str], Path | str]) -> Any:
    """Return a path, or each of a list of paths, changed; addresses such as s3://… stay."""
    if not isinstance(value, str):
        return (
            [_each(one, change) for one in value] if isinstance(value, list | ListConfig) else value
        )
    return value if "://" in value or not value else str(change(os.path.expanduser(value)))


def _build(source: str, *parts: Any) -> RunConfig:
    for part in parts:
        check_keys(source, OmegaConf.to_container(part), RunConfig, "")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(RunConfig), *map(_worded, parts))
        return cast(RunConfig, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise _refusal(source, error) from None


def _refusal(source: str, error: OmegaConfBaseException) -> ValueError:
    """Return the error for a value that does not fit its key."""
    key, why = getattr(error, "full_key", None), handwritten.misfit(error)
    return ValueError(f"{source}: {key}: {why}" if key else f"{source}: {why}")


def _worded(part: Any) -> Any:
    """Return a part of a config with words where YAML reads `off` and `no` (Norwegian) as false.

    A section in which nothing stands any more is as if it were not there.
    """
    for key, nothing in list(empty_parts(OmegaConf.to_container(part))):
        part = part.copy()
        OmegaConf.update(part, key, nothing)
    for key in ("adapter.target_modules", "adapter.target_parameters"):
        names = OmegaConf.select(part, key, default=None)
        if isinstance(names, ListConfig) and all(isinstance(name, str) for name in names):
            part = part.copy()  # as PEFT takes them
            OmegaConf.update(part, key, ",".join(names))
    for key, words in (("model.thinking", ("off", "on")), ("questions.language", ("no", "yes"))):
        value = OmegaConf.select(part, key, default=None)
        if isinstance(value, bool):
            part = part.copy()
            OmegaConf.update(part, key, words[value])
    languages = OmegaConf.select(part, "corpus.languages", default=None)
    if isinstance(languages, ListConfig) and any(one is False for one in languages):
        part = part.copy()
        worded = ["no" if one is False else one for one in languages]
        OmegaConf.update(part, "corpus.languages", worded)
    return part


def _one_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
