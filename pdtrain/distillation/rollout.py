"""Let the student write answers just before the step that trains on them (on-policy).

The teacher, with the passage in view, then gives its distributions on the student's words instead
of its own. What is written depends on the adapter at that step and on a seed of the step, so a
resumed run writes the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pdtrain.config import RolloutConfig
from pdtrain.distillation.examples import Example
from pdtrain.generation.backend import Backend
from pdtrain.records import content_id, rng_for, seed_for


@dataclass(frozen=True)
class Rollout:
    """Replace a share of a step's answers by new ones that the student writes."""

    student: Backend  # the model with its adapter on
    config: RolloutConfig
    seed: int

    def __call__(self, step: int, chosen: Sequence[Example]) -> list[Example]:
        """Return the step's answers, `rollout.share` of them written anew by the student."""
        written = [e for e in chosen if self._is_written(step, e)]
        prompts = [list(e.student_prompt) for e in written]
        seed = seed_for(self.seed, "rollout", step)
        done = iter(self.student.sample(prompts, self.config.sampling, seed))

        def anew(example: Example) -> Example:
            ids = next(done).token_ids
            name = content_id(example.answer_id, ids)
            return replace(example, answer_id=name, answer=ids, key="")

        return [anew(e) if self._is_written(step, e) else e for e in chosen]

    def _is_written(self, step: int, example: Example) -> bool:
        coin = rng_for(self.seed, "rollout", step, example.answer_id).random()
        return coin < self.config.share
