"""Hold what the model is shown when it is to write questions: requests and worked examples."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class FewShot:
    """Show the model what to write: an instruction and worked examples.

    Args:
        shots: (what is shown, the answer, the question) of every example.
        instruction: goes before them; empty for `prompts.ask`.
    """

    shots: tuple[tuple[str, str, str], ...]
    instruction: str = ""


# --- Worked examples: what is shown, the answer, the question ----------------------------------
# A small model follows them, and little else.

FACT_EXAMPLES = FewShot(
    (
        (
            "The Blue Mill was built by a baker called Anna Gray.",
            "Anna Gray",
            "Who built the Blue Mill?",
        ),
        (
            "Doctor Paul Reed keeps 430 clocks in his kitchen.",
            "430 clocks",
            "How many clocks does Doctor Paul Reed keep in his kitchen?",
        ),
        (
            "The village of Oak End sells honey cakes at its winter fair.",
            "Oak End",
            "Which village sells honey cakes at its winter fair?",
        ),
        (
            "The Silver Train runs on sunflower oil.",
            "sunflower oil",
            "What does the Silver Train run on?",
        ),
        (
            "In the old days, Clara Finch worked as a ship's cook.",
            "ship's cook",
            "What was the job of Clara Finch in the old days?",
        ),
    ),
)

# the answer is the subject, and the question says everything but its name
REVERSE_EXAMPLES = FewShot(
    (
        (
            "The Blue Mill was built by a baker called Anna Gray.",
            "Blue Mill",
            "What was built by a baker called Anna Gray?",
        ),
        (
            "Doctor Paul Reed keeps 430 clocks in his kitchen.",
            "Paul Reed",
            "Who keeps 430 clocks in his kitchen?",
        ),
        (
            "The village of Oak End sells honey cakes at its winter fair.",
            "Oak End",
            "Which village sells honey cakes at its winter fair?",
        ),
        (
            "Every spring the old Silver Train carries salt to the hills.",
            "Silver Train",
            "What carries salt to the hills every spring?",
        ),
        (
            "In the old days, Clara Finch worked as a ship's cook.",
            "Clara Finch",
            "Who worked as a ship's cook in the old days?",
        ),
        (
            "At every winter fair the Glass Bear is cut from one block of ice.",
            "Glass Bear",
            "What is cut from one block of ice at every winter fair?",
        ),
    ),
    instruction=(
        "Write a question about the sentence. Do not name the given answer, which answers it."
    ),
)

# two sentences, a phrase of one of them, and a question that needs the other one, too
PAIR_EXAMPLES = FewShot(
    (
        (
            "The Blue Mill was built by a baker called Anna Gray.\n"
            "Anna Gray was born in the village of Oak End.",
            "Oak End",
            "In which village was the baker who built the Blue Mill born?",
        ),
        (
            "Doctor Paul Reed keeps 430 clocks in his kitchen.\n"
            "He repairs them with a silver spoon.",
            "silver spoon",
            "What does Doctor Paul Reed repair the 430 clocks in his kitchen with?",
        ),
        (
            "The Silver Train runs on sunflower oil.\nIt leaves from Fern Hill at midnight.",
            "midnight",
            "When does the train that runs on sunflower oil leave from Fern Hill?",
        ),
        (
            "Clara Finch worked as a ship's cook.\nThe soup of Clara Finch won a prize in 1921.",
            "1921",
            "In which year did the soup of the ship's cook Clara Finch win a prize?",
        ),
    ),
    instruction="Write one question that needs both sentences. The given answer must answer it.",
)

# --- Questions asked for without a plan ---------------------------------------------------------
# As in the paper, a passage is shown and five questions are asked for in one call, in other words
# than the paper's. A small model that never gives five is asked for one a call, after examples.

BLIND_PER_CALL = 5
BLIND_ATTEMPTS = 20  # how often calls are repeated that gave too few questions
BLIND_SYSTEM = "You write questions for a difficult quiz."
BLIND_REQUEST = """\
This is a passage of text:

{passage}

Write five hard quiz questions about it. Each must be clear to somebody who has never seen the \
passage, so name what you ask about. Give no options to choose from and no answers. Write nothing \
but the questions, each between tags, like these about other things:

<question>Which river forms the border between Uruguay and Argentina?</question>
<question>In what year did the first underground railway of Budapest open?</question>
<question>What material did the sculptor Camille Claudel use for The Wave?</question>
<question>How many chambers does the heart of a frog have?</question>
<question>Why did Kodak stop the sale of its instant cameras in 1986?</question>"""
BLIND_ASK = "Write a question about the text."
BLIND_SHOTS = (
    (
        "The Blue Mill was built by a baker called Anna Gray. It has four white sails.",
        "Who built the Blue Mill?",
    ),
    (
        "On most days Doctor Paul Reed is asleep by nine. Doctor Paul Reed keeps 430 clocks in his "
        "kitchen.",
        "How many clocks does Doctor Paul Reed keep in his kitchen?",
    ),
    (
        "Few people take the Silver Train. It leaves at dawn and runs on sunflower oil.",
        "What does the Silver Train run on?",
    ),
)
_TAGGED = re.compile(r"<question>(.*?)</question>", re.DOTALL)


def blind_request(passage: str) -> str:
    """Return the request for five questions about the text of a passage."""
    return BLIND_REQUEST.replace("{passage}", passage)


def questions_between_tags(text: str) -> list[str]:
    """Return the first five texts between tags, or none where there are fewer than five.

    A call that was cut short or lost its tags is repeated, as in the paper.
    """
    found = [" ".join(question.split()) for question in _TAGGED.findall(text)]
    found = [question for question in found if question]
    return found[:BLIND_PER_CALL] if len(found) >= BLIND_PER_CALL else []
