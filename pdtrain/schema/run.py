"""Put the sections of knobs together, and check what concerns several of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from pdtrain.run_folder import RunFolder
from pdtrain.schema.checks import decides, require, require_name, require_number
from pdtrain.schema.corpus import CorpusConfig
from pdtrain.schema.engine import EngineConfig
from pdtrain.schema.evaluation import EvaluateConfig, ExportConfig
from pdtrain.schema.generation import GenerationConfig
from pdtrain.schema.model import AdapterConfig, ModelConfig
from pdtrain.schema.plan import PlanConfig
from pdtrain.schema.synthesis import AnswerConfig, PromptConfig, QuestionConfig
from pdtrain.schema.training import (
    LossConfig,
    RawTextConfig,
    RetainConfig,
    RolloutConfig,
    RoundsConfig,
    TeacherConfig,
    TrainConfig,
)
from pdtrain.storage import hash_json


@dataclass(frozen=True)
class RunConfig:
    """Hold every knob of a run.

    The metadata of a section names the stages that its knobs decide, unless a knob says otherwise
    (`schema.decides`). The model decides by its fingerprint (`models.tokenizer.fingerprint`), and
    inputs that are named by a path by their content: the stages hash those themselves.
    """

    # names the run folder and the report; that of the YAML file where it says none
    name: str = "run"
    source: str = ""  # the YAML file that this config was read from: pdtrain sets it
    # let this config go on in a run folder that another config made
    take_over: bool = False
    # a text that is printed when a run starts: what the user of this config should know
    notes: str = ""
    out_dir: str = "runs/${name}"  # the run folder, relative to the working folder
    # seed of everything that is random
    seed: int = field(
        default=0,
        metadata=decides("questions", "answers", "retain", "train", "quiz", "evaluate"),
    )
    model: ModelConfig = field(default_factory=ModelConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig, metadata=decides("reading"))
    prompts: PromptConfig = field(
        default_factory=PromptConfig,
        metadata=decides("answers", "teacher", "train", "predictions", "quiz"),
    )
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    questions: QuestionConfig = field(default_factory=QuestionConfig, metadata=decides("questions"))
    answers: AnswerConfig = field(default_factory=AnswerConfig, metadata=decides("answers"))
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig, metadata=decides("train"))
    raw_text: RawTextConfig = field(default_factory=RawTextConfig, metadata=decides("train"))
    rollout: RolloutConfig = field(default_factory=RolloutConfig, metadata=decides("train"))
    retain: RetainConfig = field(default_factory=RetainConfig, metadata=decides("retain"))
    loss: LossConfig = field(default_factory=LossConfig, metadata=decides("train"))
    train: TrainConfig = field(default_factory=TrainConfig, metadata=decides("train"))
    rounds: RoundsConfig = field(default_factory=RoundsConfig, metadata=decides("rounds"))
    engine: EngineConfig = field(default_factory=EngineConfig)
    # DeepSpeed's own keys, merged last into the settings that are computed
    deepspeed: dict[str, Any] = field(default_factory=dict)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig, metadata=decides("evaluate"))
    export: ExportConfig = field(default_factory=ExportConfig, metadata=decides("export"))
    plan: PlanConfig = field(default_factory=PlanConfig)

    def __post_init__(self) -> None:
        for knob, value in _knobs(self, ""):
            require_number(knob, value)
        require(
            bool(self.out_dir.strip()),
            "out_dir is empty, and a run would be strewn over the working folder; name a folder, "
            "such as runs/mine",
        )
        # generators of random numbers take no others
        require(self.seed >= 0, f"seed must be >= 0, got {self.seed}")
        if self.out_dir in ("runs/${name}", f"runs/{self.name}"):  # elsewhere it is but a title
            require_name(self.name, "name")
        require(
            self.loss.top_k > 0 or not self.teacher.cache,
            "loss.top_k=0 compares the whole vocabulary, which is too much to keep on disk for "
            "every answer token; set teacher.cache=false",
        )
        require(
            self.teacher.source == "own"
            or (self.is_teacher_cached and bool(self.generation.server.url)),
            "teacher.source=server fills the teacher's cache: it needs generation.server.url and a "
            "cache that is read (teacher.cache=true, train.epochs >= 2, rollout.share=0)",
        )
        caches = self.is_teacher_cached or (self.rounds.most > 0 and self.rounds.epochs > 1)
        require(
            self.loss.top_k < 2**16 or not self.teacher.cache or not caches,
            f"loss.top_k={self.loss.top_k} is more than the teacher's cache can count, which is "
            f"{2**16 - 1}; lower it, or set teacher.cache=false",
        )
        require(
            self.teacher.source == "own" or not self.rounds.most or self.rounds.epochs >= 2,
            "teacher.source=server fills a cache that is read again: rounds.most > 0 needs "
            f"rounds.epochs >= 2 there, got {self.rounds.epochs}",
        )
        require(
            self.teacher.source == "own" or self.loss.temperature == 1,
            "teacher.source=server: a server's log-probabilities are of temperature 1, and those "
            f"of loss.temperature={self.loss.temperature:g} do not follow from the likeliest "
            "tokens; set loss.temperature=1, or teacher.source=own",
        )
        require(
            self.train.objective == "distill" or not self.rollout.share,
            f"train.objective={self.train.objective} has no teacher to say anything about the "
            "student's own answers; set rollout.share=0",
        )
        require(
            not self.loss.labels or not self.rollout.share,
            "loss.labels > 0 takes the answers' own tokens as true, which what the student writes "
            "itself is not; set loss.labels=0, or rollout.share=0",
        )
        require(
            self.train.objective == "distill" or not self.loss.labels,
            f"train.objective={self.train.objective} has no teacher to mix the answers' own tokens "
            "into; set loss.labels=0",
        )
        require(
            self.train.objective != "raw_text" or not self.rounds.most,
            "rounds.most > 0 asks new questions about what was missed, and "
            "train.objective=raw_text trains on none; set rounds.most=0",
        )
        require(
            self.questions.per_sentence > 0 or not self.rounds.most,
            "rounds.most > 0 quizzes about the phrases that training asked for, and "
            "questions.per_sentence=0 asks for none; set questions.per_sentence >= 1, or "
            "rounds.most=0",
        )
        require(
            self.question_writer == "sentence" or not self.rounds.most,
            "rounds.most > 0 quizzes about the phrases that training asked for, and "
            f"questions.writer={self.questions.writer} has a capable model write questions, which "
            "ask for none; set questions.writer=sentence, or rounds.most=0",
        )
        only_given = self.questions.given and not self.questions.given_and_generated
        require(
            not only_given or not self.rounds.most,
            "rounds.most > 0 quizzes about the phrases that training asked for, and "
            "questions.given alone asks for none; set questions.given_and_generated=true, or "
            "rounds.most=0",
        )
        require(
            self.model.quantization == "none" or not self.export.merge,
            f"export.merge=true would merge the adapter into other weights than those that it was "
            f"trained and scored on, which model.quantization={self.model.quantization} holds in "
            "fewer bits; set export.merge=false, and serve the adapter on its base",
        )
        loss = self.loss
        kind = (loss.divergence, loss.temperature, loss.tail)
        is_plain = kind == ("forward_kl", 1.0, "bucket")
        objective = self.train.objective
        labels = f"loss.labels={loss.labels:g} is in part" if loss.labels else ""
        require(
            is_plain or (objective == "distill" and not labels),
            f"{labels or f'train.objective={objective} is'} cross-entropy, which needs "
            "loss.divergence=forward_kl, loss.temperature=1 and loss.tail=bucket; got "
            f"{', '.join(map(str, kind))}",
        )

    @property
    def question_writer(self) -> Literal["sentence", "model"]:
        """Return who writes the questions: with `auto` the model, unless it is the embedded one."""
        asked = self.questions.writer
        if asked == "auto":
            return "sentence" if self.model.name == "embedded" else "model"
        return asked

    @property
    def is_automatic(self) -> bool:
        """Tell whether a knob is left to `auto` that is chosen by the GPUs that are there."""
        return "auto" in (self.train.gradient_checkpointing, self.engine.zero_stage)

    def decisions(self, stage: str) -> dict[str, Any]:
        """Return the knobs that decide what a stage puts out, by dotted name.

        Raises:
            KeyError: no knob decides a stage of this name.
        """
        found = dict(_decisions(self, stage, (), ""))
        if not found:
            raise KeyError(f"no knob decides {stage!r}; the metadata of knobs names the stages")
        return found

    def hash_for(self, stage: str) -> str:
        """Return the SHA-256 of the knobs that decide what a stage puts out."""
        return hash_json(self.decisions(stage))

    @property
    def is_teacher_cached(self) -> bool:
        """Tell whether the teacher is cached, which it is not where a cache would be read once."""
        is_asked = self.train.objective == "distill" or self.retain.weight > 0
        return is_asked and self.teacher.cache and self.train.epochs > 1 and not self.rollout.share

    @property
    def is_teacher_online(self) -> bool:
        """Tell whether the teacher reads passages in every step that trains on their answers."""
        return self.train.objective == "distill" and not self.is_teacher_cached

    @property
    def answers_per_group(self) -> int:
        """Return how many answers of one passage share a step."""
        if self.train.answers_per_group:
            return self.train.answers_per_group
        return max(1, self.train.answers_per_step // 4) if self.is_teacher_online else 1

    @property
    def folder(self) -> Path:
        """Return the path of the run folder, below which a run writes everything."""
        return Path(self.out_dir).expanduser()

    @property
    def own_inputs(self) -> list[str]:
        """Return the paths of what is never learned, even where it lies among the documents."""
        asked = self.evaluate
        return [self.source, asked.questions, asked.unrelated, asked.reading]

    @property
    def run(self) -> RunFolder:
        """Return the run folder, with the path of every file in it and a reader for each."""
        return RunFolder(self.folder, has_rounds=self.rounds.most > 0)


def _knobs(section: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the dotted names and values of all knobs in a section."""
    for f in fields(section):
        value = getattr(section, f.name)
        if is_dataclass(value):
            yield from _knobs(value, f"{prefix}{f.name}.")
        else:
            yield prefix + f.name, value


def _decisions(
    section: Any, stage: str, inherited: tuple[str, ...], prefix: str
) -> Iterator[tuple[str, Any]]:
    """Yield the dotted names and values of the knobs in a section that decide a stage."""
    for f in fields(section):
        stages, value = f.metadata.get("decides", inherited), getattr(section, f.name)
        if is_dataclass(value):
            yield from _decisions(value, stage, stages, f"{prefix}{f.name}.")
        elif stage in stages:
            yield prefix + f.name, value
