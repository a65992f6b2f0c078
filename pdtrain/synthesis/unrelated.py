"""Texts and questions of general knowledge, to measure what an adapter does to all the rest.

Written for this project and under its licence. Nothing is ever trained on them: what holds an
adapter to its base (`retain.py`) asks about other things. `evaluate.unrelated` names others.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pdtrain.storage import read_jsonl

TEXTS = (
    "Bread rises because yeast feeds on the sugars in flour and gives off carbon dioxide. The gas "
    "is caught in a net of gluten, which forms when flour and water are kneaded. A dough that "
    "rests in a cool place rises more slowly and develops more flavour. In the oven the gas "
    "expands, the yeast dies, and the starch sets into a crumb. The crust turns brown because "
    "sugars and proteins on the surface react with each other in the dry heat.",
    "The Moon goes round the Earth in a little more than twenty-seven days and always shows us "
    "the same face. Its gravity raises the tides: the water bulges on the side that faces the "
    "Moon and on the side that faces away from it. When the Sun and the Moon pull along the same "
    "line, the tides are at their highest. The Moon has no air and no weather, so footprints in "
    "its dust can stay there for millions of years.",
    "A bicycle stays upright more easily when it moves. The rider steers slightly into every "
    "fall, and the wheels come back under the weight. Gears let the legs turn at a steady pace: a "
    "low gear gives more force for climbing, and a high gear gives more distance for each turn. "
    "Most brakes press a pad against the rim or against a disc, and turn motion into heat. A "
    "chain that is kept clean and oiled wastes very little of the rider's work.",
    "Writing was invented more than once. In Mesopotamia, scribes pressed reeds into wet clay to "
    "keep accounts of grain and sheep. In Egypt, signs were carved into stone and painted on "
    "papyrus, and in China, questions to the ancestors were cut into bones and shells. Alphabets "
    "came later. They need only a few dozen signs because each of them stands for a sound and not "
    "for a word, so that many more people could learn to read.",
    "A computer program is a list of instructions that a machine follows one after another. "
    "Programmers rarely write these instructions in the form that the machine reads. They use a "
    "programming language, and a compiler or an interpreter translates it. Mistakes in a program "
    "are called bugs. To find them, people write tests, read the code again, and print what the "
    "program holds in its memory while it runs.",
    "Trees take up water through their roots and lift it to their leaves, sometimes a hundred "
    "metres high. No pump is at work. Water that evaporates from the leaves pulls a thin column "
    "of water up behind it. In the leaves, light drives a reaction that turns water and carbon "
    "dioxide into sugar and oxygen. In autumn many trees in cold countries draw back what is "
    "useful from their leaves, and then let them fall.",
    "An orchestra tunes to the note A, which is usually given by the oboe. Strings, woodwinds, "
    "brass and percussion each have their own place on the stage. The conductor shows the tempo "
    "with one hand and shapes the loudness with the other. A symphony often has four movements, "
    "of which the second is slow. Between the movements of a work, most audiences today keep "
    "silent and applaud only at the end.",
    "To sail against the wind, a boat cannot steer straight at it. It goes at an angle, first to "
    "one side and then to the other, which is called tacking. The sail works like a wing, and the "
    "keel below the hull stops the boat from sliding sideways. Sailors learned long ago to read "
    "the clouds, the colour of the sea and the flight of birds. Today they also have satellites "
    "that tell them where they are.",
)
QUESTIONS = (
    "What is the capital of France?",
    "How many legs does a spider have?",
    "Why is the sky blue?",
    "Who wrote the play Romeo and Juliet?",
    "What is the boiling point of water at sea level?",
    "How do vaccines protect people from disease?",
    "What is the largest ocean on Earth?",
    "Name three primary colours.",
    "What does a thermometer measure?",
    "How many minutes are there in two hours?",
    "Which planet is known as the Red Planet?",
    "What do bees make from nectar?",
    "Explain what a democracy is.",
    "What is the opposite of the word generous?",
    "How should I prepare for a job interview?",
    "What is the square root of 81?",
    "Why do people wear seat belts in a car?",
    "Give me a short recipe for an omelette.",
    "What happened on the Moon in July 1969?",
    "Translate the word water into Spanish.",
    "What are the main ingredients of concrete?",
    "Who painted the Mona Lisa?",
    "How does a magnet work?",
    "Suggest a name for a friendly robot.",
)


def read(path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Texts and questions of a JSONL file with {"text"} or {"question"} a line; bundled without."""
    if not path:
        return TEXTS, QUESTIONS
    if not Path(path).is_file():
        raise ValueError(
            f"evaluate.unrelated={path!r} is not a file; expected JSONL with "
            '{"text": "..."} or {"question": "..."} a line, or leave it empty for the bundled ones'
        )
    rows = list(read_jsonl(Path(path)))
    found = _texts(rows, "text"), _texts(rows, "question")
    if sum(map(len, found)) != len(rows) or not rows:
        raise ValueError(
            f'{path}: expected {{"text": "..."}} or {{"question": "..."}} in every row, found '
            f"{sum(map(len, found))} of them in {len(rows)} rows"
        )
    return found


def _texts(rows: Iterable[dict], key: str) -> tuple[str, ...]:
    return tuple(
        row[key]
        for row in rows
        if isinstance(row, dict) and isinstance(row.get(key), str) and row[key].split()[1:]
    )
