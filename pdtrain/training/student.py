"""Let the student answer while it is trained: on policy, and held-out questions for the curve.

On several ranks each holds the whole base below ZeRO-3, and writes its part of the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pdtrain.config import RunConfig, SamplingConfig
from pdtrain.distributed.process_group import gathered
from pdtrain.evaluation.grading.metrics import gold_in_answer
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.generation.protocol import Backend, WrappedBackend
from pdtrain.generation.sampling import Completion
from pdtrain.synthesis.held_out import read_questions
from pdtrain.training.setup import TrainingSetup


@dataclass(frozen=True)
class SharedStudent(WrappedBackend[HuggingFaceBackend]):
    """Be a `Backend` whose prompts the ranks of one training answer together.

    Every rank calls `sample` with the same prompts and gets all completions. A completion has the
    seed that it has in one process, so that the number of ranks changes nothing but rounding.

    Args:
        base: this rank's model, whose weights are those of every other rank's.
        rank: this rank.
        num_ranks: how many share the prompts.
    """

    rank: int
    num_ranks: int

    @property
    def can_score(self) -> bool:
        """Return False: the ranks share what is sampled alone."""
        return False

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: SamplingConfig,
        seed: int,
        *,
        stop_ids: Sequence[int] = (),
        on_done: Callable[[int], object] | None = None,
    ) -> list[Completion]:
        """Return one completion for each prompt, as `Backend.sample` says. All ranks take part.

        Batches are no larger than an even part of the prompts, so that no rank is idle.
        """
        largest = min(self.base.batch_size, max(1, -(-len(prompts) // self.num_ranks)))
        batches = self.base.batches(prompts, largest)[self.rank :: self.num_ranks]
        mine = self.base.sample_batches(
            prompts, batches, sampling, seed, stop_ids=stop_ids, on_done=on_done
        )
        found = {i: done for part in gathered(mine) for i, done in part.items()}
        return [found[i] for i in range(len(prompts))]

    def log_likelihoods(self, *_: object, **__: object) -> list[float]:
        """Refuse: `can_score` is False."""
        raise ValueError("the ranks of a training score no texts together")


def open_student(setup: TrainingSetup, batch_size: int) -> Backend | None:
    """Return what answers with the adapter as it is at the time; None where no rank can.

    Args:
        setup: the training, whose ranks all call this.
        batch_size: prompts that a rank decodes together, at most.
    """
    engine = setup.engine
    student = HuggingFaceBackend(setup.model, setup.chat, batch_size)
    if not setup.is_spread:
        return student
    if setup.schedule.config.engine.stage == 3:
        return None
    return SharedStudent(student, engine.rank, engine.num_ranks)


def held_out_accuracy(config: RunConfig, student: Backend) -> Callable[[], float] | None:
    """Return a function that asks some held-out questions closed-book, for the training curve.

    It returns the share of answers that hold a gold answer. None where none is asked for.
    """
    settings = config.train
    if not (config.evaluate.questions and settings.evaluate_every_epochs):
        return None
    questions = [q for q in read_questions(config.evaluate.questions) if q.answers]
    if 0 < settings.evaluate_questions < len(questions):  # evenly, from all documents
        stride = len(questions) / settings.evaluate_questions
        questions = [questions[int(i * stride)] for i in range(settings.evaluate_questions)]
    prompts = [student.chat.student(q.question) for q in questions]
    greedy = SamplingConfig(temperature=0, max_new_tokens=config.evaluate.max_new_tokens)

    def evaluate() -> float:
        done = student.sample(prompts, greedy, seed=0)
        hits = [gold_in_answer(c.text, q.answers) for c, q in zip(done, questions, strict=True)]
        return sum(hits) / len(hits)

    return evaluate
