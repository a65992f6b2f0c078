"""Every knob, section by section: frozen dataclasses with their defaults and checks.

`config.RunConfig` puts the sections together, and checks what concerns several of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from math import inf
from pathlib import Path
from typing import Any, Literal

from pdtrain.run_folder import RunFolder
from pdtrain.storage import hash_json


def require(condition: bool, message: str) -> None:
    """Raise ValueError with the message where the condition does not hold."""
    if not condition:
        raise ValueError(message)


def decides(*stages: str) -> dict[str, tuple[str, ...]]:
    """Return the metadata of a knob that changes what these stages put out; of none if empty.

    A knob without such metadata decides what its section does, as `config.RunConfig` says it.
    `RunConfig.hash_for` hashes the values of all knobs that decide a stage, so that the stage runs
    again when one of them changes.
    """
    return {"decides": stages}


@dataclass(frozen=True)
class ModelConfig:
    name: str = "embedded"  # `embedded`, a model folder, or a hub name
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bf16 on GPU, fp32 on CPU
    device: str = "auto"  # auto: cuda where there is one, else cpu
    trust_remote_code: bool = False  # runs code that came with the model: only if you read it


@dataclass(frozen=True)
class CorpusConfig:
    # a folder or one file: .txt .md .html .jsonl .parquet .arrow
    documents: str = field(default="", metadata=decides())
    text_field: str = "text"  # of rows: .jsonl .parquet .arrow
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


# of requests to tell about a passage, which would be repeated if there were more of them
WORDINGS = {"per_passage": 8, "per_passage_summaries": 4, "per_passage_lists": 4}


@dataclass(frozen=True)
class QuestionConfig:
    per_sentence: int = 8  # questions asked about each sentence
    per_sentence_reverse: int = 1  # questions which subject it is true of, where it says so
    per_sentence_completions: int = 2  # requests to finish the sentence from its beginning
    per_sentence_blanks: int = 2  # requests to fill in one of its phrases
    per_sentence_cues: int = 0  # requests by its subject and a word or two of it, quoted as answer
    per_passage: int = 8  # requests to tell about the passage's subject, sentence by sentence
    per_name: int = 2  # requests about each person, place or thing that the passage names
    per_passage_summaries: int = 1  # requests to sum up all that the passage says
    per_passage_lists: int = 1  # requests to list its facts
    # questions about each two sentences of a passage that share a name or the subject
    per_pair: int = 1
    # about each name that stands in several passages, for each of them and the next one: so many
    # requests and so many questions, the teacher reading both passages
    per_entity: int = 1
    # requests to compare a passage's subject with another one's; a small teacher compares badly
    per_passage_comparisons: int = 0
    blind: int = 0  # questions a passage asked for with no plan, as the paper does
    blind_a_call: int = 5  # as in the paper, or 1, after examples, for a model too small for that
    # a question is dropped where its words are as like those of another of its passage, or of a
    # held-out one (Jaccard similarity of the sets of stems, without articles); 1 drops equal ones
    near_duplicate: float = field(default=0.9, metadata=decides("questions", "retain", "quiz"))
    sampling: SamplingConfig = field(
        default_factory=lambda: SamplingConfig(temperature=0.8, top_k=50, max_new_tokens=40),
        metadata=decides("questions", "quiz"),
    )

    def __post_init__(self) -> None:
        require(
            min(self.counts().values()) >= 0 and sum(self.counts().values()) > 0,
            f"questions.{', '.join(self.counts())} must be >= 0 and not all 0, got "
            f"{', '.join(map(str, self.counts().values()))}",
        )
        for name, most in WORDINGS.items():
            require(
                getattr(self, name) <= most,
                f"questions.{name} must be at most {most}, for there are so many wordings, got "
                f"{getattr(self, name)}; questions.per_sentence asks for more of each sentence",
            )
        require(
            self.blind_a_call in (1, 5),
            f"questions.blind_a_call must be 5, as in the paper, or 1, got {self.blind_a_call}",
        )
        require(
            0 < self.near_duplicate <= 1,
            "questions.near_duplicate must be in (0, 1], 1 to drop equal questions alone, got "
            f"{self.near_duplicate}",
        )

    def counts(self) -> dict[str, int]:
        """The knobs that say how many questions of a kind are asked for."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: v for k, v in found.items() if k.startswith("per_") or k == "blind"}


@dataclass(frozen=True)
class AnswerConfig:
    per_question: int = 1  # samples; the same text twice is kept once
    # a request for a whole sentence, and a question all of whose sampled answers were dropped, is
    # answered by the sentence itself; what is learnt is the teacher's distributions on it (and a
    # share of its own tokens, see loss.labels)
    quote: bool = True
    # a question about a phrase of a sentence (fact, reverse) is answered by that phrase alone, too:
    # the teacher's distributions along a short answer are learnt beside those along a sentence;
    # train.objective=sft takes the phrase as given, and loss.labels a share of it
    spans: bool = False
    grounded: bool = True  # drop answers that are not about the sentence asked about
    attempts: int = 3  # how often a question is put to the teacher until an answer is kept
    # further samples of each answer to a question that asks for no phrase and is not quoted; the
    # answer is dropped where fewer than half of them agree with it
    checks: int = 1
    enough_per_sentence: int = 6  # with as many answers, quotes included, it is left at that
    sampling: SamplingConfig = field(
        default_factory=lambda: SamplingConfig(temperature=0.5, top_k=50, max_new_tokens=48)
    )

    def __post_init__(self) -> None:
        for name in ("per_question", "attempts", "enough_per_sentence"):
            value = getattr(self, name)
            require(value > 0, f"answers.{name} must be > 0, got {value}")
        require(self.checks >= 0, f"answers.checks must be >= 0 (0 is off), got {self.checks}")


@dataclass(frozen=True)
class PromptConfig:
    """Texts put before the model.

    `teacher` is filled with {title}, {passage}, {focus} and {question}. {focus} is the text
    `focus` with the {sentence} that a generated question is about, and empty for other questions.
    """

    system: str = field(
        default="Answer the question in one short sentence.",
        metadata=decides("answers", "retain", "teacher", "train", "predictions", "quiz"),
    )
    teacher: str = (
        "{passage}\n\n{focus}Using only the text above, answer in one short sentence: {question}"
    )
    focus: str = "{sentence}\n\n"
    # the examples that follow in questions.SHOTS show it what is meant
    ask: str = field(
        default="Write a question about the sentence. The given answer must answer it.",
        metadata=decides("questions", "quiz"),
    )

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
    # of the distributions compared, not of sampling
    temperature: float = field(default=1.0, metadata=decides("teacher", "train"))
    # the teacher's most probable tokens; 0 is the whole vocabulary
    top_k: int = field(default=64, metadata=decides("teacher", "train"))
    tail: Literal["bucket", "renormalise"] = "bucket"
    # share of the answer's own token in each distribution that the student learns: 0 is the teacher
    # alone, and the nearer to 1 the more it is supervised fine-tuning on the answers; for answers
    # that are better than what the teacher would say itself: checked, quoted, spans
    labels: float = 0.0
    row_filter: float = 0.0  # skip dense gradients with a smaller tail-mass difference
    average: Literal["token", "answer"] = "token"  # answer: mean per answer first, as the paper

    def __post_init__(self) -> None:
        require(self.temperature > 0, f"loss.temperature must be > 0, got {self.temperature}")
        require(self.top_k >= 0, f"loss.top_k must be >= 0 (0 is all), got {self.top_k}")
        require(0 < self.beta < 1, f"loss.beta must be in (0, 1), got {self.beta}")
        require(
            0 <= self.labels < 1,
            f"loss.labels must be in [0, 1), got {self.labels}; train.objective=sft is all labels",
        )
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
    weight: float = field(default=0.0, metadata=decides("train"))
    # of them that join the answers of each step
    per_step: int = field(default=4, metadata=decides("train"))
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
    learning_rate: float = 1e-3  # tuned on the embedded model; begin lower with large ones
    # distill: the teacher's distributions on the answers, mixed with loss.labels; sft: the answers'
    # tokens alone, by cross-entropy; raw_text: the passages' own tokens, without any question
    objective: Literal["distill", "sft", "raw_text"] = "distill"
    # folder of a trained adapter that training goes on from, of the same shape as `adapter`
    # (a copy of runs/NAME/export, which holds the best round's); empty: from scratch
    start: str = field(default="", metadata=decides())
    # with a start: answers of passages that it has learnt which are trained on again, for each
    # answer of a passage that it has not
    replay: float = 1.0
    answer_tokens: int = 0  # train on so many at most, answers drawn at random; 0 is all
    warmup_ratio: float = 0.1
    scheduler: Literal["linear", "cosine", "constant"] = "linear"  # decay to 0 after warm-up
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    max_grad_norm: float = 1.0
    answers_per_step: int = 16  # of all ranks together
    # so many answers of one passage stand in the same step, for which an online teacher reads it
    # once; 0: a quarter of a step with an online teacher, 1 (a plain shuffle) with a cached one
    answers_per_group: int = field(default=0, metadata=decides())
    answers_per_micro_batch: int = field(default=16, metadata=decides())  # at most, and
    # at most, of both sides, a shared passage counted once
    tokens_per_micro_batch: int = field(default=8192, metadata=decides())
    gradient_checkpointing: bool = field(default=False, metadata=decides())
    save_every_steps: int = field(default=50, metadata=decides())
    log_every_steps: int = field(default=1, metadata=decides())
    evaluate_every_epochs: int = field(default=1, metadata=decides())  # 0 is never
    # held-out questions asked while training, for the curves
    evaluate_questions: int = field(default=24, metadata=decides())

    def __post_init__(self) -> None:
        counts = ("epochs", "answers_per_step", "answers_per_micro_batch", "tokens_per_micro_batch")
        for name in (*counts, "save_every_steps", "log_every_steps"):
            require(getattr(self, name) > 0, f"train.{name} must be > 0, got {getattr(self, name)}")
        require(
            0 <= self.answers_per_group <= self.answers_per_step,
            f"train.answers_per_group={self.answers_per_group} must be 0 (by the teacher) to "
            f"train.answers_per_step={self.answers_per_step}",
        )
        require(
            self.answer_tokens >= 0,
            f"train.answer_tokens must be >= 0 (0 is all), got {self.answer_tokens}",
        )
        require(0 <= self.replay < inf, f"train.replay must be >= 0, got {self.replay}")
        require(self.learning_rate > 0, f"train.learning_rate must be > 0: {self.learning_rate}")
        require(0 <= self.warmup_ratio < 1, f"train.warmup_ratio: [0, 1), got {self.warmup_ratio}")
        require(self.max_grad_norm > 0, f"train.max_grad_norm must be > 0: {self.max_grad_norm}")


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


@dataclass(frozen=True)
class RoundsConfig:
    """After training: the student is quizzed about facts, and taught again what it misses."""

    most: int = 0  # rounds of it; 0 is off
    questions_per_miss: int = 8  # new ones about each fact that it misses and its teacher knows
    # facts of one sentence that are quizzed at most: phrases that its training questions ask for
    quiz_per_sentence: int = 2
    least_gain: float = 0.01  # a round that recovers less than this more is the last
    epochs: int = 1  # of a round
    learning_rate: float = 0.0  # of a round; 0: train.learning_rate
    replay: float = 1.0  # earlier answers that are trained on again, for each new one

    def __post_init__(self) -> None:
        require(self.most >= 0, f"rounds.most must be >= 0 (0 is off), got {self.most}")
        for name in ("questions_per_miss", "quiz_per_sentence", "epochs"):
            value = getattr(self, name)
            require(value > 0, f"rounds.{name} must be > 0, got {value}")
        for name in ("least_gain", "learning_rate", "replay"):
            value = getattr(self, name)
            require(0 <= value < inf, f"rounds.{name} must be >= 0, got {value}")


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
    # environment variable with the key, if it needs one
    key_variable: str = field(default="OPENAI_API_KEY", metadata=decides())
    max_new_tokens: int = 256
    concurrent: int = field(default=8, metadata=decides())  # requests at once
    attempts: int = field(default=4, metadata=decides())  # of a request that the server fails
    timeout_seconds: float = field(default=120.0, metadata=decides())

    def __post_init__(self) -> None:
        require(
            not self.url or re.match(r"https?://[^@\s]+$", self.url) is not None,
            "evaluate.judge.url must be http(s)://host/v1 without a user or password in it",
        )
        require(
            not self.url or bool(self.model),
            "evaluate.judge.url needs evaluate.judge.model, the name that the server knows",
        )
        require(
            re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.key_variable) is not None,
            "evaluate.judge.key_variable must be the name of an environment variable in "
            "capitals, such as OPENAI_API_KEY, and not the key itself, which would be written to "
            "the run's files",
        )
        for name in ("max_new_tokens", "concurrent", "attempts", "timeout_seconds"):
            value = getattr(self, name)
            require(value > 0, f"evaluate.judge.{name} must be > 0, got {value}")


@dataclass(frozen=True)
class EvaluateConfig:
    # .jsonl of held-out questions; empty: evaluation is skipped, and says so
    questions: str = field(default="", metadata=decides())
    # .jsonl of texts and questions to measure forgetting on; empty: bundled
    unrelated: str = field(default="", metadata=decides())
    # ask only the first so many; 0 is all
    limit: int = field(default=0, metadata=decides("predictions"))
    max_new_tokens: int = field(default=32, metadata=decides("predictions"))
    # retrieved passages put before the question
    rag_passages: int = field(default=1, metadata=decides("retrieval"))
    # sentence-transformers model (folder, hub name or `embedded`) that finds them in rows of its
    # own, beside those of BM25; empty: no such rows
    dense: str = field(default="", metadata=decides())
    judge: JudgeConfig = field(default_factory=JudgeConfig, metadata=decides("judge"))
    batch_size: int = field(default=32, metadata=decides())
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
    """Hold every knob of a run.

    The metadata of a section names the stages that its knobs decide, unless a knob says otherwise
    (`schema.decides`). The model decides by its fingerprint (`models.base.fingerprint`), and
    inputs that are named by a path by their content: the stages hash those themselves.
    """

    name: str = "run"
    notes: str = ""  # said when a run starts: what whoever takes this config should know
    out_dir: str = "runs/${name}"
    seed: int = field(
        default=0,
        metadata=decides("questions", "answers", "retain", "train", "quiz", "evaluate"),
    )
    model: ModelConfig = field(default_factory=ModelConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig, metadata=decides("passages"))
    prompts: PromptConfig = field(
        default_factory=PromptConfig,
        metadata=decides("answers", "teacher", "train", "predictions", "quiz"),
    )
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
    deepspeed: dict[str, Any] = field(default_factory=dict)  # DeepSpeed"s own keys, merged last
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig, metadata=decides("evaluate"))
    export: ExportConfig = field(default_factory=ExportConfig, metadata=decides("export"))
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
            self.engine.kind != "deepspeed" or not self.rounds.most,
            "rounds.most > 0 needs one plain process: a base that is spread over ranks cannot "
            "write questions; set rounds.most=0, or engine.kind=plain",
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

    def decisions(self, stage: str) -> dict[str, Any]:
        """Return the knobs that decide what a stage puts out, by dotted name.

        Raises:
            KeyError: no knob decides a stage of this name.
        """
        found = dict(_decisions(self, stage, (), ""))
        if not found:
            raise KeyError(f"no knob decides {stage!r}; schema.py's metadata names the stages")
        return found

    def hash_for(self, stage: str) -> str:
        """Return the SHA-256 of the knobs that decide what a stage puts out."""
        return hash_json(self.decisions(stage))

    @property
    def is_teacher_cached(self) -> bool:
        """A cache that would be read once is not worth its writing."""
        is_asked = self.train.objective == "distill" or self.retain.weight > 0
        return is_asked and self.teacher.cache and self.train.epochs > 1 and not self.rollout.share

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
        """The path of the run folder: everything that a run writes is below it."""
        return Path(self.out_dir).expanduser()

    @property
    def run(self) -> RunFolder:
        """The run folder, with the name of every file in it and a reader for each."""
        return RunFolder(self.folder, has_rounds=self.rounds.most > 0)


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
