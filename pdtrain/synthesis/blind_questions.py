"""Questions asked for with no plan: which sentences are asked about, and how often, is left to
chance.

As in the paper a passage is shown and five of them are asked for in one call, in other words than
the paper's; what comes between the tags is a question, whatever it is. A small model that never
gives five is asked for one a call instead, after examples; what does not end in a question mark is
none.
"""

from __future__ import annotations

import re

PER_CALL = 5
ATTEMPTS = 20  # calls that gave too few questions are made again so often
SYSTEM = "You write questions for a difficult quiz."
REQUEST = """\
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
ONE = "Write a question about the text."
SHOTS = (
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
TAGGED = re.compile(r"<question>(.*?)</question>", re.DOTALL)


def messages(passage: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": REQUEST.replace("{passage}", passage)}]


def parse(text: str) -> list[str]:
    """What stands between the tags, at most five; nothing where fewer than five do.

    A call that was cut short or lost its tags is made again, as in the paper.
    """
    found = [" ".join(question.split()) for question in TAGGED.findall(text)]
    found = [question for question in found if question]
    return found[:PER_CALL] if len(found) >= PER_CALL else []


def messages_of_one(passage: str, *, is_system: bool) -> list[dict[str, str]]:
    """The examples and the passage; what is asked for stands in the first, if not in `system`."""
    found = []
    for text, question in (*SHOTS, (passage, "")):
        found += [{"role": "user", "content": text}, {"role": "assistant", "content": question}]
    if not is_system:
        found[0]["content"] = f"{ONE}\n\n{found[0]['content']}"
    return found[:-1]
