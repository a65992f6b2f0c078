"""Answer questions with rewrites of the passage that are written for the question.

Focal rewriting (arXiv 2603.23562) makes a synthetic document for each question: the passage, told
so that it answers this question. Here the rewrite is the answer, so it is learned like any other;
it says more of the passage than a short answer does. Answers are checked as the stage checks them.
"""

from __future__ import annotations

from dataclasses import replace

from pdtrain.config import RunConfig
from pdtrain.generation.huggingface import HuggingFaceBackend
from pdtrain.synthesis import answers

SYSTEM = "Rewrite the text as you are asked."
REWRITE = (
    "{passage}\n\n{focus}Rewrite the text above in two or three sentences, so that it answers this "
    "question: {question}"
)
LENGTH = 2  # a rewrite has at most so many times the tokens of a short answer


def collect(config: RunConfig) -> None:
    """Run the `answers` stage with rewrites; the folder says nothing of how they were asked for.

    The model in this process writes them, whatever `generation` and `model.thinking` say.

    Args:
        config: of a run whose questions are there. `answers.checks` and `answers.mark_known` do not
            hold here: a further sample would be a rewrite as well.
    """
    own = config.answers
    sampling = replace(own.sampling, max_new_tokens=LENGTH * own.sampling.max_new_tokens)
    longer = replace(own, sampling=sampling, checks=0, mark_known=False)
    prompts = replace(config.prompts, system=SYSTEM, teacher=REWRITE)
    backend = HuggingFaceBackend.of_base(config.model, prompts, batch_size=128)
    answers.collect(replace(config, answers=longer), backend)
