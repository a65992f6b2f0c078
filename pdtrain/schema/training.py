"""Define the knobs of what is trained on, how, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from pdtrain.schema.checks import decides, require
from pdtrain.schema.generation import SamplingConfig


@dataclass(frozen=True)
class LossConfig:
    """Say how the student's distributions are compared with the teacher's."""

    # KL(teacher ‖ student), KL(student ‖ teacher), or the Jensen-Shannon divergence
    divergence: Literal["forward_kl", "reverse_kl", "jsd"] = "forward_kl"
    beta: float = 0.5  # of jsd: the weight of the teacher in the mixture
    # temperature of the distributions that are compared, not of sampling
    temperature: float = field(default=1.0, metadata=decides("teacher", "train"))
    # number of the teacher's most probable tokens; 0 is the whole vocabulary
    top_k: int = field(default=64, metadata=decides("teacher", "train"))
    # all other tokens together are one more bucket, or they are left out and the rest is
    # renormalised
    tail: Literal["bucket", "renormalise"] = "bucket"
    # share of the answer's own token in each distribution that the student learns: 0 is the teacher
    # alone, and values near 1 are nearly supervised fine-tuning on the answers; for answers that
    # are better than what the teacher would say itself
    labels: float = 0.0
    # which answers have labels. checked: not sentences and phrases that stand in for answers that
    # were dropped, for nothing says that they fit their question; all: these, too
    labels_for: Literal["checked", "all"] = "checked"
    # with labels > 0: the same share for answers of the form "The documents do not say …"
    # (questions.per_passage_unanswerable); null is loss.labels, 1 labels alone. A rule makes these
    # answers, and a teacher that would sooner invent one teaches the opposite
    labels_unsaid: float | None = None
    # skip the dense gradient of rows whose tail masses differ by less than this
    row_filter: float = 0.0
    # mean over tokens, or, as in the paper, over answers of the mean over their tokens
    average: Literal["token", "answer"] = "token"
    # what computes it. auto: on a GPU the Triton kernels, if they are proved there before the first
    # step, value and gradient; otherwise chunked, which is plain torch and slower
    impl: Literal["auto", "triton", "chunked"] = field(default="auto", metadata=decides())

    def __post_init__(self) -> None:
        require(self.temperature > 0, f"loss.temperature must be > 0, got {self.temperature}")
        require(self.top_k >= 0, f"loss.top_k must be >= 0 (0 is all), got {self.top_k}")
        require(0 < self.beta < 1, f"loss.beta must be in (0, 1), got {self.beta}")
        require(
            0 <= self.labels < 1,
            f"loss.labels must be in [0, 1), got {self.labels}; train.objective=sft is all labels",
        )
        require(
            self.labels_unsaid is None or 0 <= self.labels_unsaid <= 1,
            f"loss.labels_unsaid must be in [0, 1], got {self.labels_unsaid}",
        )
        require(
            self.row_filter == 0 or self.tail == "bucket",
            "loss.row_filter needs loss.tail=bucket: renormalise has no tail to filter by",
        )


@dataclass(frozen=True)
class TeacherConfig:
    """Say where the teacher's distributions come from, and whether they are kept on disk."""

    # compute the teacher's top-k once, keep it on disk, and read it in every epoch
    cache: bool = True
    # own: the base that is trained. server: the same base behind generation.server, which must be
    # vLLM's, for it gives its likeliest tokens for every token of a prompt; only for the cache
    source: Literal["own", "server"] = field(default="own", metadata=decides("teacher", "train"))


@dataclass(frozen=True)
class RawTextConfig:
    """Say how passages are cut when `train.objective=raw_text` trains on them as they stand."""

    window_tokens: int = 256  # tokens of a window
    overlap: int = 64  # tokens that a window shares with the one before it

    def __post_init__(self) -> None:
        require(
            1 <= self.overlap < self.window_tokens,
            "raw_text.overlap must be at least 1, for a window's first token is only given, and "
            f"less than raw_text.window_tokens={self.window_tokens}; got {self.overlap}",
        )


@dataclass(frozen=True)
class RolloutConfig:
    """Say how many answers the student writes itself (on-policy) instead of the teacher."""

    # share of each step's answers that the student writes anew just before the step
    share: float = 0.0
    sampling: SamplingConfig = field(
        default_factory=lambda: SamplingConfig(temperature=1.0, top_k=0, max_new_tokens=48)
    )

    def __post_init__(self) -> None:
        require(0 <= self.share <= 1, f"rollout.share must be in [0, 1], got {self.share}")


@dataclass(frozen=True)
class RetainConfig:
    """Hold the adapter to its base on questions and texts of its own, and on passages in view."""

    # w in the loss (documents' loss + w x base's loss) / (1 + w); with 0 none are made
    weight: float = field(default=0.0, metadata=decides("train"))
    # of these questions and texts, how many join the answers of each step
    per_step: int = field(default=4, metadata=decides("train"))
    per_topic: int = 4  # how many of them are made about each general topic
    # share of these samples that are questions with passages in view, on both sides: a third about
    # the documents, with the right one, the right one among others, or now and then one that does
    # not help; a third about documents in which the answer was changed; and a third about bundled
    # short texts of invented facts. What the base answers wrongly is left out, so that the share is
    # smaller where it does not read well
    reading: float = 0.0
    sampling: SamplingConfig = field(
        default_factory=lambda: SamplingConfig(temperature=1.0, top_k=50, max_new_tokens=48)
    )

    def __post_init__(self) -> None:
        require(self.weight >= 0, f"retain.weight must be >= 0 (0 is off), got {self.weight}")
        for name in ("per_step", "per_topic"):
            value = getattr(self, name)
            require(value > 0, f"retain.{name} must be > 0, got {value}")
        require(0 <= self.reading < 1, f"retain.reading: from 0 to below 1, got {self.reading}")


@dataclass(frozen=True)
class TrainConfig:
    """Say what is trained on, for how long, and in steps of what size."""

    epochs: int = 5  # how often every answer is trained on
    # highest rate; tuned on the embedded model alone: begin with about 1e-4 at 8B
    learning_rate: float = 1e-3
    # distill: the teacher's distributions on the answers, mixed with loss.labels; sft: the answers'
    # own tokens, by cross-entropy; raw_text: the passages' own tokens, without questions
    objective: Literal["distill", "sft", "raw_text"] = "distill"
    # folder of a trained adapter for a warm start, of the same shape as `adapter` (a copy of
    # runs/NAME/export, which holds the best round's); empty: from scratch
    start: str = field(default="", metadata=decides())
    # after a warm start: answers of passages that the start has learned, for each answer of a
    # passage that it has not
    replay: float = 1.0
    # train on at most this many answer tokens, of answers drawn at random; 0 is all
    answer_tokens: int = 0
    warmup_ratio: float = 0.1  # share of the steps in which the learning rate rises
    # how the learning rate falls to 0 after the warm-up, or that it stays
    scheduler: Literal["linear", "cosine", "constant"] = "linear"
    weight_decay: float = 0.0  # AdamW's weight decay
    adam_beta1: float = 0.9  # decay of AdamW's first moment
    adam_beta2: float = 0.999  # decay of AdamW's second moment
    max_grad_norm: float = 1.0  # gradients are clipped to this norm
    answers_per_step: int = 16  # answers of one optimizer step, all ranks together
    # answers of one passage that share a step, for which an online teacher reads the passage once;
    # 0 is a quarter of a step with an online teacher, and 1 (a plain shuffle) with a cached one
    answers_per_group: int = field(default=0, metadata=decides())
    # most answers of a micro-batch
    answers_per_micro_batch: int = field(default=16, metadata=decides())
    # most tokens of a micro-batch, both sides and padding, a shared passage counted once
    tokens_per_micro_batch: int = field(default=8192, metadata=decides())
    # recompute activations in backward: less memory, more time; auto does it on GPUs where the
    # arithmetic of `pdtrain plan` finds no room for them
    gradient_checkpointing: Literal["auto", True, False] = field(default="auto", metadata=decides())
    save_every_steps: int = field(default=50, metadata=decides())  # steps between checkpoints
    log_every_steps: int = field(default=1, metadata=decides())  # steps between lines of metrics
    # epochs between held-out questions while training; 0 is never
    evaluate_every_epochs: int = field(default=1, metadata=decides())
    # held-out questions that are asked while training, for the curves
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
        for name in ("evaluate_every_epochs", "evaluate_questions"):
            value = getattr(self, name)
            require(value >= 0, f"train.{name} must be >= 0, got {value}")
        require(0 <= self.replay < inf, f"train.replay must be >= 0, got {self.replay}")
        require(self.learning_rate > 0, f"train.learning_rate must be > 0: {self.learning_rate}")
        require(0 <= self.warmup_ratio < 1, f"train.warmup_ratio: [0, 1), got {self.warmup_ratio}")
        require(self.max_grad_norm > 0, f"train.max_grad_norm must be > 0: {self.max_grad_norm}")
        require(self.weight_decay >= 0, f"train.weight_decay must be >= 0, got {self.weight_decay}")
        for name in ("adam_beta1", "adam_beta2"):
            value = getattr(self, name)
            require(0 <= value < 1, f"train.{name} must be in [0, 1), got {value}")

    @property
    def checkpoints(self) -> bool:
        """Return whether activations are recomputed; not where `auto` has not been chosen for."""
        return self.gradient_checkpointing is True


@dataclass(frozen=True)
class RoundsConfig:
    """Quiz the student about facts after training, and teach it again what it misses."""

    most: int = 0  # number of rounds at most; 0 is off
    # new questions about each fact that the student misses and the teacher knows
    questions_per_miss: int = 8
    # most facts of one sentence that are quizzed; a fact is a phrase that training asked for
    quiz_per_sentence: int = 2
    least_gain: float = 0.01  # a round that recovers less than this more is the last
    epochs: int = 1  # epochs of a round
    learning_rate: float = 0.0  # learning rate of a round; 0 is train.learning_rate
    # earlier answers that are trained on beside each new one: drawn at random, but for those that
    # say that no document says something, which keep their share. Where train.answer_tokens left
    # some out of the first training, they may be among them
    replay: float = 1.0

    def __post_init__(self) -> None:
        require(self.most >= 0, f"rounds.most must be >= 0 (0 is off), got {self.most}")
        for name in ("questions_per_miss", "quiz_per_sentence", "epochs"):
            value = getattr(self, name)
            require(value > 0, f"rounds.{name} must be > 0, got {value}")
        for name in ("least_gain", "learning_rate", "replay"):
            value = getattr(self, name)
            require(0 <= value < inf, f"rounds.{name} must be >= 0, got {value}")
