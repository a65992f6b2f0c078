"""Questions asked for with no plan, as in the paper: a passage, and five of them a call.

The request says what the paper's says, in other words. What comes between the tags is a question,
whatever it is: which sentences are asked about, and how often, is left to chance.
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
