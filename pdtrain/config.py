"""Every knob: frozen dataclasses with their defaults and checks; `load` and `dump`.

Defaults < file < command line. A YAML file lists only what differs. Paths of inputs in a file
are relative to that file, on the command line to the working folder.
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pdtrain.files import write_atomically


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True)
class ModelConfig:
    name: str = "embedded"  # `embedded`, a model folder, or a hub name
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bf16 on GPU, fp32 on CPU
    device: str = "auto"  # auto: cuda where there is one, else cpu
    trust_remote_code: bool = False  # runs code that came with the model: only if you read it


@dataclass(frozen=True)
class CorpusConfig:
    documents: str = ""  # a folder or one file: .txt .md .html .jsonl
    text_field: str = "text"  # of .jsonl rows
    title_field: str = "title"
    max_passage_tokens: int = 512

    def __post_init__(self) -> None:
        require(
            self.max_passage_tokens >= 16,
            f"corpus.max_passage_tokens must be at least 16, got {self.max_passage_tokens}",
        )


@dataclass(frozen=True)
class SamplingConfig:
    temperature: float = 1.0  # 0 is greedy
    top_k: int = 50  # 0 is off
    top_p: float = 1.0
    max_new_tokens: int = 64

    def __post_init__(self) -> None:
        require(self.temperature >= 0, f"temperature must be >= 0, got {self.temperature}")
        require(self.top_k >= 0, f"top_k must be >= 0 (0 is off), got {self.top_k}")
        require(0 < self.top_p <= 1, f"top_p must be in (0, 1], got {self.top_p}")
        require(self.max_new_tokens > 0, f"max_new_tokens must be > 0, got {self.max_new_tokens}")


@dataclass(frozen=True)
class QuestionConfig:
    per_sentence: int = 8  # questions asked about each sentence
    per_sentence_completions: int = 2  # requests to finish the sentence from its beginning
    per_sentence_blanks: int = 2  # requests to fill in one of its phrases
    per_passage: int = 8  # requests to tell about the passage's subject, sentence by sentence
    per_name: int = 2  # requests about each person, place or thing that the passage names
    blind: int = 0  # questions a passage asked for with no plan, five a call, as the paper does
    sampling: SamplingConfig = field(
        default_factory=lambda: SamplingConfig(temperature=0.8, top_k=50, max_new_tokens=40)
    )

    def __post_init__(self) -> None:
        require(
            min(counts := self.counts()) >= 0 and sum(counts) > 0,
            "questions.per_sentence, per_sentence_completions, per_sentence_blanks, per_passage, "
            f"per_name and blind must be >= 0 and not all 0, got {', '.join(map(str, counts))}",
        )

    def counts(self) -> tuple[int, ...]:
        return (
            self.per_sentence,
            self.per_sentence_completions,
            self.per_sentence_blanks,
            self.per_passage,
            self.per_name,
            self.blind,
        )


@dataclass(frozen=True)
class AnswerConfig:
    per_question: int = 1  # samples; the same text twice is kept once
    # a request for a whole sentence, and a question all of whose sampled answers were dropped, is
    # answered by the sentence itself; what is learnt is the teacher's distributions on it
    quote: bool = True
    grounded: bool = True  # drop answers that are not about the sentence asked about
    attempts: int = 3  # how often a question is put to the teacher until an answer is kept
    enough_per_sentence: int = 6  # with as many answers, quotes included, it is left at that
    sampling: SamplingConfig = field(
        default_factory=lambda: SamplingConfig(temperature=0.5, top_k=50, max_new_tokens=48)
    )

    def __post_init__(self) -> None:
        for name in ("per_question", "attempts", "enough_per_sentence"):
            value = getattr(self, name)
            require(value > 0, f"answers.{name} must be > 0, got {value}")


@dataclass(frozen=True)
class PromptConfig:
    """Texts put before the model.

    `teacher` is filled with {title}, {passage}, {focus} and {question}. {focus} is the text
    `focus` with the {sentence} that a generated question is about, and empty for other questions.
    """

    system: str = "Answer the question in one short sentence."
    teacher: str = (
        "{passage}\n\n{focus}Using only the text above, answer in one short sentence: {question}"
    )
    focus: str = "{sentence}\n\n"
    # the examples that follow in questions.SHOTS show it what is meant
    ask: str = "Write a question about the sentence. The given answer must answer it."

    def __post_init__(self) -> None:
        try:
            self.teacher.format(title="", passage="", focus="", question="")
            self.focus.format(sentence="")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(
                "prompts.teacher may hold {title}, {passage}, {focus} and {question}, and "
                f"prompts.focus {{sentence}}; write other braces twice. Found {error}"
            ) from None
        for name in ("passage", "question"):
            require(
                self.teacher.count(f"{{{name}}}") == 1,
                f"prompts.teacher must contain {{{name}}} once, which the teacher then sees once",
            )


@dataclass(frozen=True)
class AdapterConfig:
    rank: int = 32
    alpha: int = 64
    dropout: float = 0.0
    target_modules: str = "all-linear"  # or names divided by commas: q_proj,v_proj

    def __post_init__(self) -> None:
        require(self.rank > 0, f"adapter.rank must be > 0, got {self.rank}")
        require(0 <= self.dropout < 1, f"adapter.dropout must be in [0, 1), got {self.dropout}")
        names = {name.strip() for name in self.target_modules.split(",")}
        require(
            not names & {"lm_head", "embed_tokens"},
            "adapter.target_modules must leave lm_head and embed_tokens alone: the loss takes "
            "its gradient in forward because the head is frozen",
        )


@dataclass(frozen=True)
class LossConfig:
    divergence: Literal["forward_kl", "reverse_kl", "jsd"] = "forward_kl"
    beta: float = 0.5  # of jsd: weight of the teacher in the mixture
    temperature: float = 1.0  # of the distributions compared, not of sampling
    top_k: int = 64  # the teacher's most probable tokens; 0 is the whole vocabulary
    tail: Literal["bucket", "renormalise"] = "bucket"
    row_filter: float = 0.0  # skip dense gradients with a smaller tail-mass difference
    average: Literal["token", "answer"] = "token"  # answer: mean per answer first, as the paper

    def __post_init__(self) -> None:
        require(self.temperature > 0, f"loss.temperature must be > 0, got {self.temperature}")
        require(self.top_k >= 0, f"loss.top_k must be >= 0 (0 is all), got {self.top_k}")
        require(0 < self.beta < 1, f"loss.beta must be in (0, 1), got {self.beta}")
        require(
            self.row_filter == 0 or self.tail == "bucket",
            "loss.row_filter needs loss.tail=bucket: renormalise has no tail to filter by",
        )


@dataclass(frozen=True)
class TeacherConfig:
    cache: bool = True  # the teacher's top-k is computed once, kept on disk, read every epoch


@dataclass(frozen=True)
class RawTextConfig:
    """How passages are cut where `train.objective=raw_text` trains on them as they stand."""

    window_tokens: int = 256
    overlap: int = 64  # tokens that a window shares with the one before it

    def __post_init__(self) -> None:
        require(
            1 <= self.overlap < self.window_tokens,
            "raw_text.overlap must be at least 1, for a window's first token is only given, and "
            f"less than raw_text.window_tokens={self.window_tokens}; got {self.overlap}",
        )


@dataclass(frozen=True)
class RolloutConfig:
    """From answers that the teacher wrote (0) to answers that the student writes (1), on-policy."""

    share: float = 0.0  # of a step's answers: written anew by the student before the step
    sampling: SamplingConfig = field(
        default_factory=lambda: SamplingConfig(temperature=1.0, top_k=0, max_new_tokens=48)
    )

    def __post_init__(self) -> None:
        require(0 <= self.share <= 1, f"rollout.share must be in [0, 1], got {self.share}")


@dataclass(frozen=True)
class RetainConfig:
    """Holding the adapter to its base on questions and texts that the base made up itself."""

    # the loss is (the documents' + weight x theirs) / (1 + weight); at 0 none are made
    weight: float = 0.0
    per_step: int = 4  # of them that join the answers of each step
    per_topic: int = 4  # of them that are made about each general topic
    sampling: SamplingConfig = field(
        default_factory=lambda: SamplingConfig(temperature=1.0, top_k=50, max_new_tokens=48)
    )

    def __post_init__(self) -> None:
        require(self.weight >= 0, f"retain.weight must be >= 0 (0 is off), got {self.weight}")
        for name in ("per_step", "per_topic"):
            value = getattr(self, name)
            require(value > 0, f"retain.{name} must be > 0, got {value}")


@dataclass(frozen=True)
class TrainConfig:
    epochs: int = 5
    learning_rate: float = 1e-3
    # distill: the teacher's distributions on the answers; sft: the answers' tokens alone, by
    # cross-entropy; raw_text: the passages' own tokens, without any question
    objective: Literal["distill", "sft", "raw_text"] = "distill"
    warmup_ratio: float = 0.1
    scheduler: Literal["linear", "cosine", "constant"] = "linear"  # decay to 0 after warm-up
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    max_grad_norm: float = 1.0
    answers_per_step: int = 16  # of all ranks together
    # so many answers of one passage stand in the same step, for which an online teacher reads it
    # once; 0: a quarter of a step with an online teacher, 1 (a plain shuffle) with a cached one
    answers_per_group: int = 0
    answers_per_micro_batch: int = 16  # at most, and
    tokens_per_micro_batch: int = 8192  # at most, of both sides, shared prefixes counted once
    gradient_checkpointing: bool = False
    save_every_steps: int = 50
    log_every_steps: int = 1
    evaluate_every_epochs: int = 1  # 0 is never
    evaluate_questions: int = 24  # held-out questions asked while training, for the curves

    def __post_init__(self) -> None:
        counts = ("epochs", "answers_per_step", "answers_per_micro_batch", "tokens_per_micro_batch")
        for name in (*counts, "save_every_steps", "log_every_steps"):
            require(getattr(self, name) > 0, f"train.{name} must be > 0, got {getattr(self, name)}")
        require(
            0 <= self.answers_per_group <= self.answers_per_step,
            f"train.answers_per_group={self.answers_per_group} must be 0 (by the teacher) to "
            f"train.answers_per_step={self.answers_per_step}",
        )
        require(self.learning_rate > 0, f"train.learning_rate must be > 0: {self.learning_rate}")
        require(0 <= self.warmup_ratio < 1, f"train.warmup_ratio: [0, 1), got {self.warmup_ratio}")
        require(self.max_grad_norm > 0, f"train.max_grad_norm must be > 0: {self.max_grad_norm}")
        require(
            self.answers_per_step % self.answers_per_micro_batch == 0
            or self.answers_per_step < self.answers_per_micro_batch,
            f"train.answers_per_step={self.answers_per_step} must be a multiple of "
            f"train.answers_per_micro_batch={self.answers_per_micro_batch}",
        )


@dataclass(frozen=True)
class EngineConfig:
    """What runs the training steps, and on how many ranks the base is spread."""

    kind: Literal["auto", "plain", "deepspeed"] = "auto"  # auto: deepspeed under a launcher
    zero_stage: int = 3  # 3 spreads the base over the ranks; below, every rank holds all of it
    # of packed rows. auto: on a GPU the first of flash, flex and packed that works; packed on a CPU
    attention: Literal["auto", "packed", "sdpa", "flex", "flash"] = "auto"
    offload_base: bool = False  # keep the base's parts in the CPU's memory
    hpz: bool = True  # on several nodes, every node holds the whole base between its ranks

    def __post_init__(self) -> None:
        require(0 <= self.zero_stage <= 3, f"engine.zero_stage: 0 to 3, got {self.zero_stage}")
        require(
            not self.offload_base or self.zero_stage == 3,
            "engine.offload_base=true needs engine.zero_stage=3, which spreads the base",
        )


ROWS = (
    "base_closed_book",
    "teacher_open_book",
    "base_rag",
    "adapter_closed_book",
    "adapter_rag",
)

DENSE_ROWS = ("base_dense_rag", "adapter_dense_rag")  # where evaluate.dense names a model
UNRELATED_ROWS = ("unrelated_text", "unrelated_questions")  # what the adapter does to all the rest


@dataclass(frozen=True)
class JudgeConfig:
    """A model that grades the predictions, behind a server with OpenAI's chat completions."""

    url: str = ""  # such as http://localhost:8000/v1; empty: nobody judges
    model: str = ""  # its name there; better of another family than the model that is judged
    key_variable: str = "OPENAI_API_KEY"  # environment variable with the key, if it needs one
    max_new_tokens: int = 256
    concurrent: int = 8  # requests at once
    attempts: int = 4  # of a request that the server fails
    timeout_seconds: float = 120.0

    def __post_init__(self) -> None:
        require(
            not self.url or re.match(r"https?://[^@\s]+$", self.url) is not None,
            "evaluate.judge.url must be http(s)://host/v1 without a user or password in it",
        )
        require(
            not self.url or bool(self.model),
            "evaluate.judge.url needs evaluate.judge.model, the name that the server knows",
        )
        for name in ("max_new_tokens", "concurrent", "attempts", "timeout_seconds"):
            value = getattr(self, name)
            require(value > 0, f"evaluate.judge.{name} must be > 0, got {value}")


@dataclass(frozen=True)
class EvaluateConfig:
    questions: str = ""  # .jsonl of held-out questions; empty: evaluation is skipped, and says so
    unrelated: str = ""  # .jsonl of texts and questions to measure forgetting on; empty: bundled
    limit: int = 0  # ask only the first so many; 0 is all
    max_new_tokens: int = 32
    rag_passages: int = 1  # retrieved passages put before the question
    # sentence-transformers model (folder, hub name or `embedded`) that finds them in rows of its
    # own, beside those of BM25; empty: no such rows
    dense: str = ""
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    batch_size: int = 32
    bootstrap_samples: int = 2000

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "rag_passages", "batch_size", "bootstrap_samples"):
            value = getattr(self, name)
            require(value > 0, f"evaluate.{name} must be > 0, got {value}")
        require(self.limit >= 0, f"evaluate.limit must be >= 0 (0 is all), got {self.limit}")


@dataclass(frozen=True)
class ExportConfig:
    merge: bool = False  # also write the base with the adapter merged into its weights


@dataclass(frozen=True)
class PlanConfig:
    """What `pdtrain plan` is told of machines and data. Training reads none of it.

    Rates are a data sheet's, or yours; how much of them is reached is assumed, not measured.
    """

    nodes: int = 1
    gpus_per_node: int = 8
    gpu_memory_gib: float = 80.0
    reserve_gib: float = 6.0  # of it, for the CUDA context, NCCL's buffers and fragmentation
    gpu_tflops: float = 989.0  # dense bf16, H100 SXM
    node_gb_per_second: float = 450.0  # into one GPU from the others of its node: NVLink 4
    network_gb_per_second: float = 50.0  # into one node from the others: one 400 Gb/s adapter
    host_gb_per_second: float = 50.0  # into one GPU from the CPU's memory: PCIe 5
    compute_reached: float = 0.4  # part of gpu_tflops
    links_reached: float = 0.7  # part of the three rates above
    gpu_hour_price: float = 3.0  # in whatever currency the answer should have
    passages: int = 10_000  # of corpus.max_passage_tokens each
    answers_per_passage: int = 100
    question_tokens: int = 64  # with the chat template and the system text
    answer_tokens: int = 40

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            require(value > 0, f"plan.{f.name} must be > 0, got {value}")
        for name in ("compute_reached", "links_reached"):
            require(getattr(self, name) <= 1, f"plan.{name} is a part of a rate: at most 1")
        require(
            self.reserve_gib < self.gpu_memory_gib,
            f"plan.reserve_gib={self.reserve_gib} leaves nothing of {self.gpu_memory_gib} GiB",
        )


@dataclass(frozen=True)
class RunConfig:
    name: str = "run"
    notes: str = ""  # said when a run starts: what whoever takes this config should know
    out_dir: str = "runs/${name}"
    seed: int = 0
    model: ModelConfig = field(default_factory=ModelConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    prompts: PromptConfig = field(default_factory=PromptConfig)
    questions: QuestionConfig = field(default_factory=QuestionConfig)
    answers: AnswerConfig = field(default_factory=AnswerConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    raw_text: RawTextConfig = field(default_factory=RawTextConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    retain: RetainConfig = field(default_factory=RetainConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    deepspeed: dict[str, Any] = field(default_factory=dict)  # DeepSpeed's own keys, merged last
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)

    def __post_init__(self) -> None:
        require(
            self.loss.top_k > 0 or not self.teacher.cache,
            "loss.top_k=0 compares the whole vocabulary, which is too much to keep on disk for "
            "every answer token; set teacher.cache=false",
        )
        require(
            self.train.objective == "distill" or not self.rollout.share,
            f"train.objective={self.train.objective} has no teacher to say anything about the "
            "student's own answers; set rollout.share=0",
        )
        loss = self.loss
        kind = (loss.divergence, loss.temperature, loss.tail)
        require(
            self.train.objective == "distill" or kind == ("forward_kl", 1.0, "bucket"),
            f"train.objective={self.train.objective} is cross-entropy, which needs "
            "loss.divergence=forward_kl, loss.temperature=1 and loss.tail=bucket; got "
            f"{', '.join(map(str, kind))}",
        )

    @property
    def is_teacher_cached(self) -> bool:
        """A cache that would be read once is not worth its writing."""
        return self.teacher.cache and self.train.epochs > 1 and not self.rollout.share

    @property
    def is_teacher_online(self) -> bool:
        """It reads the passages again in every step that is trained on their answers."""
        return self.train.objective == "distill" and not self.is_teacher_cached

    @property
    def answers_per_group(self) -> int:
        """Answers of one passage in the same step."""
        if self.train.answers_per_group:
            return self.train.answers_per_group
        return max(1, self.train.answers_per_step // 4) if self.is_teacher_online else 1

    @property
    def folder(self) -> Path:
        """The run folder: everything a run writes is below it."""
        return Path(self.out_dir)


INPUT_PATHS = (("corpus", "documents"), ("evaluate", "questions"), ("evaluate", "unrelated"))

# what other trainers call our knobs; a misspelt key is answered with ours
KNOWN_ELSEWHERE = {
    "model_name_or_path": "model.name",
    "output_dir": "out_dir",
    "num_train_epochs": "train.epochs",
    "per_device_train_batch_size": "train.answers_per_micro_batch",
    "gradient_accumulation_steps": "train.answers_per_step",
    "lr": "train.learning_rate",
    "learning_rate": "train.learning_rate",
    "lr_scheduler_type": "train.scheduler",
    "warmup_ratio": "train.warmup_ratio",
    "max_grad_norm": "train.max_grad_norm",
    "lora_r": "adapter.rank",
    "lora_rank": "adapter.rank",
    "lora_alpha": "adapter.alpha",
    "lora_dropout": "adapter.dropout",
    "topk": "loss.top_k",
    "gkd_logits_topk": "loss.top_k",
    "distillation_topk": "loss.top_k",
    "temperature": "loss.temperature",
}


def load(path: Path | str, overrides: list[str] | None = None) -> RunConfig:
    """Defaults < file < command line. Unknown keys and wrong types raise ValueError.

    `overrides` are `key=value` strings such as "train.epochs=3".
    """
    path = Path(path)
    if not path.is_file():
        near = difflib.get_close_matches(
            str(path), map(str, Path("configs").glob("*.yaml")), 1, 0.5
        )
        hint = f"; did you mean {near[0]}?" if near else "; `ls configs/` shows the bundled ones"
        raise ValueError(f"config {path} is not a file{hint}")
    try:
        file = OmegaConf.load(path)
    except Exception as error:  # the YAML parser has many error types
        raise ValueError(f"config {path} is not valid YAML: {_one_line(error)}") from None
    if not isinstance(file, DictConfig):
        raise ValueError(f"config {path} must be a mapping such as `train: {{epochs: 3}}`")
    _check_keys(f"config {path}", OmegaConf.to_container(file), RunConfig, "")
    for section, key in INPUT_PATHS:
        value = OmegaConf.select(file, f"{section}.{key}")
        if isinstance(value, str) and value:
            OmegaConf.update(file, f"{section}.{key}", str(path.parent / Path(value).expanduser()))
    for key in ("model.name", "evaluate.dense"):
        if isinstance(name := OmegaConf.select(file, key), str) and name.startswith("."):
            OmegaConf.update(file, key, str((path.parent / name).resolve()))
    for override in overrides or []:
        if "=" not in override:
            raise ValueError(
                f"{override!r} is not an override; expected key=value, such as train.epochs=3"
            )
    # `key=` means an empty text, not the null that a dotlist makes of it
    dotlist = [f"{o}''" if o.endswith("=") else o for o in overrides or []]
    try:
        given = OmegaConf.from_dotlist(dotlist)
    except Exception as error:  # values are YAML, whose parser has many error types
        raise ValueError(f"an override's value is not valid YAML: {_one_line(error)}") from None
    return _build(f"config {path}", file, given)


def from_dict(values: dict[str, Any]) -> RunConfig:
    """The same checks for a plain dictionary, such as a run's stored config."""
    return _build("config", OmegaConf.create(values))


def load_run(folder: Path | str) -> RunConfig:
    """The resolved config a run folder was made with."""
    path = Path(folder) / "config.yaml"
    if not path.is_file():
        raise ValueError(
            f"{folder} is not a run folder: it has no config.yaml; `pdtrain run CONFIG` makes one"
        )
    stored = OmegaConf.to_container(OmegaConf.load(path))
    # the folder that was named, wherever it stands now, not the one it was made as
    return from_dict(cast(dict[str, Any], stored) | {"out_dir": str(folder)})


def dump(config: RunConfig, path: Path) -> None:
    """The resolved config, every default included, with inputs at their absolute paths."""
    values = cast(dict[str, Any], _literal(asdict(config)))
    for section, key in INPUT_PATHS:
        if values[section][key]:
            values[section][key] = os.path.abspath(os.path.expanduser(values[section][key]))
    write_atomically(path, OmegaConf.to_yaml(OmegaConf.create(values)))


def _literal(value: Any) -> Any:
    """The value with every `${` escaped: what is resolved already must not be resolved again."""
    if isinstance(value, dict):
        return {k: _literal(v) for k, v in value.items()}
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", value)
    return value


def _build(source: str, *parts: Any) -> RunConfig:
    for part in parts:
        _check_keys(source, OmegaConf.to_container(part), RunConfig, "")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(RunConfig), *parts)
        return cast(RunConfig, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        where = f"{source}: {key}: " if key else f"{source}: "
        raise ValueError(where + _one_line(error)) from None


def _one_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _check_keys(source: str, values: Any, schema: Any, prefix: str) -> None:
    """Refuse keys that no dataclass has, naming the nearest one that exists."""
    known = {f.name: f for f in fields(schema)}
    if not isinstance(values, dict):
        raise ValueError(f"{source}: {prefix.rstrip('.')} must be a mapping of {', '.join(known)}")
    for key, value in values.items():
        if key not in known:
            raise ValueError(f"{source}: unknown key {prefix}{key}{_suggestion(str(key), prefix)}")
        default = _default_of(known[key])
        if is_dataclass(default) and value is not None:
            _check_keys(source, value, type(default), f"{prefix}{key}.")


def _default_of(field_: Any) -> Any:
    factory = field_.default_factory
    return factory() if callable(factory) else field_.default


def all_keys(schema: Any = RunConfig, prefix: str = "") -> list[str]:
    """Every key in dotted form, as the command line takes them."""
    keys = []
    for f in fields(schema):
        default = _default_of(f)
        if is_dataclass(default):
            keys += all_keys(type(default), f"{prefix}{f.name}.")
        else:
            keys.append(prefix + f.name)
    return keys


def _suggestion(key: str, prefix: str) -> str:
    keys = all_keys()
    sections = {k.split(".")[0] for k in keys}
    if key in KNOWN_ELSEWHERE:
        return f"; did you mean {KNOWN_ELSEWHERE[key]}?"
    others = sections - {prefix.rstrip(".")}
    near = difflib.get_close_matches(prefix + key, [*keys, *others], 1, 0.6)
    if not near:  # the right name in the wrong section
        by_leaf = {k.split(".")[-1]: k for k in keys}
        leaf = difflib.get_close_matches(key, by_leaf, 1, 0.75)
        near = [by_leaf[leaf[0]]] if leaf else []
    if near:
        return f"; did you mean {near[0]}?"
    inside = [k for k in keys if k.startswith(prefix)] if prefix else sorted(sections)
    return f"; known: {', '.join(inside)}"
