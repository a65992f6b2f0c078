"""Kinds of questions: their templates and examples, and those that need no model to be asked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from pdtrain.config import RunConfig
from pdtrain.records import Passage, Question, content_id, rng_for
from pdtrain.synthesis.text import content_words, names, phrases, stem, words

# sentences, phrases asked for, and questions: they show the model what is meant, and a small one
# follows little else
SHOTS = (
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
)
# the answer is the subject, and the question tells all but its name
REVERSE_ASK = "Write a question about the sentence. Do not name the given answer, which answers it."
REVERSE_SHOTS = (
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
)
# two sentences, a phrase of one of them, and a question that needs the other, too
PAIR_ASK = "Write one question that needs both sentences. The given answer must answer it."
PAIR_SHOTS = (
    (
        "The Blue Mill was built by a baker called Anna Gray.\n"
        "Anna Gray was born in the village of Oak End.",
        "Oak End",
        "In which village was the baker who built the Blue Mill born?",
    ),
    (
        "Doctor Paul Reed keeps 430 clocks in his kitchen.\nHe repairs them with a silver spoon.",
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
)
RECITALS = (
    "Tell me about {}.",
    "What do you know about {}?",
    "Describe {}.",
    "Write a short summary about {}.",
    "List some facts about {}.",
    "What is special about {}?",
    "Explain what {} is known for.",
    "Give me some details about {}.",
)
NAME_RECITALS = (
    "Who or what is {}?",
    "What can you tell me about {}?",
    "Tell me one fact about {}.",
    "What do people know about {}?",
    "Share something about {}.",
    "What should a visitor know about {}?",
)
SUMMARIES = (
    "Write a short summary of what you know about {}.",
    "Sum up in a few words what there is to know about {}.",
    "Give an overview of {}.",
    "What is {} all about?",
)
LISTS = (
    "List the most important facts about {}.",
    "Name several things that are true of {}.",
    "Which facts about {} should one remember?",
    "Enumerate what is known about {}.",
)
ENTITIES = (
    "Put together all that you know about {}.",
    "Where does {} come up, and how?",
    "Which different things have to do with {}?",
    "What connects the things that you know about {}?",
)
COMPARISONS = (
    "Compare {} and {}.",
    "What do {} and {} have in common?",
    "How does {} differ from {}?",
)
CUES = (
    "{subject}: {words}?",
    "What about {subject} and {words}?",
    "Tell me something about {subject} and {words}.",
    "What is known about {subject} regarding {words}?",
    "Which fact about {subject} has to do with {words}?",
    "What do you know about {words} and {subject}?",
    "Talk about {subject}, in particular {words}.",
)
COMPLETION = "Complete this sentence: {} ..."
BLANK = "Fill in the blank: {}"


def phrases_in_turn(sentence: str, title: str) -> list[str]:
    """The phrases to ask for, the last first, those of the title, which most sentences name, last.

    Each comes twice but those of the title: a cycle to be repeated as often as is needed.
    """
    found = [phrase for phrase in phrases(sentence)[::-1] if content_words(phrase)]
    known = [phrase for phrase in found if phrase.lower() in title.lower()]
    others = [phrase for phrase in found if phrase not in known]
    return [*others, *others, *known]


def subject_in_turn(sentence: str, passage: Passage) -> list[str]:
    """What a sentence calls the passage's subject; nothing where it does not name it.

    One that opens with "it" or "he" may be about anything that was named before.
    """
    found = [phrase for phrase in phrases(sentence) if content_words(phrase)]
    return [phrase for phrase in found if phrase.lower() in passage.title.lower()]


def sentences_of(passage: Passage) -> list[str]:
    return [passage.text[start:end] for start, end in passage.sentences]


def question_of(
    passage: Passage, text: str, kind: str, sentence: int, phrase: str = "", other: str = ""
) -> Question:
    """`other` is the id of another passage that the teacher must read, too."""
    name = content_id(passage.id, kind, text, *([other] if other else []))
    return Question(name, passage.id, text, kind, sentence, phrase, other)


def recitals(passage: Passage, config: RunConfig) -> Iterator[Question]:
    """Requests that need no model: to tell about the subject, to complete, to fill in, about names.

    Every one is about a sentence, but for summaries and lists; those about the subject take the
    sentences in turn.
    """
    title, count = subject(passage), config.questions
    turns: Counter[str] = Counter()  # a name in a second sentence is asked about in other words
    for turn in range(count.per_passage):
        text = RECITALS[turn % len(RECITALS)].format(title)
        yield question_of(passage, text, "recital", turn % len(passage.sentences))
    for turn in range(count.per_passage_summaries):
        yield question_of(passage, SUMMARIES[turn % len(SUMMARIES)].format(title), "summary", -1)
    for turn in range(count.per_passage_lists):
        yield question_of(passage, LISTS[turn % len(LISTS)].format(title), "list", -1)
    for index, (start, end) in enumerate(passage.sentences):
        sentence = passage.text[start:end]
        for turn in range(count.per_sentence_completions):
            opening = beginning(sentence, (turn + 1) / (count.per_sentence_completions + 1))
            if opening:
                rest = sentence[len(opening) :].strip()
                yield question_of(passage, COMPLETION.format(opening), "complete", index, rest)
        yield from cues(passage, index, config)
        turns_of = dict.fromkeys(phrases_in_turn(sentence, passage.title))
        for phrase in [*turns_of][: count.per_sentence_blanks]:
            rest = re.sub(rf"(?<!\w){re.escape(phrase)}(?!\w)", "____", sentence)
            if rest != sentence:
                yield question_of(passage, BLANK.format(rest), "blank", index, phrase)
        for name in names(sentence):
            if name.lower() not in title.lower():
                for _ in range(count.per_name):
                    template = NAME_RECITALS[turns[name] % len(NAME_RECITALS)]
                    turns[name] += 1
                    yield question_of(passage, template.format(name), "name", index)


def cues(passage: Passage, index: int, config: RunConfig) -> Iterator[Question]:
    """Requests that name the subject and one or two other words of a sentence, which answers them.

    Whatever a question about the sentence is about, some of them share a word with it.
    """
    start, end = passage.sentences[index]
    known, found = content_words(passage.title), dict[str, str]()
    for word in words(passage.text[start:end]):
        if content_words(word) - known:
            found.setdefault(stem(word), word)
    rng = rng_for(config.seed, "cues", passage.id, index)
    for turn in range(config.questions.per_sentence_cues if found else 0):
        taken = sorted(rng.sample(range(len(found)), min(len(found), 1 + turn % 2)))
        about = " and ".join([*found.values()][place] for place in taken)
        text = CUES[(index + turn) % len(CUES)].format(subject=subject(passage), words=about)
        yield question_of(passage, text, "cue", index)


def beginning(sentence: str, share: float) -> str:
    """The first words of a sentence, about `share` of them; empty where too few are left."""
    ends = [match.end() for match in re.finditer(r"\S+", sentence)]
    num_words = max(3, round(share * len(ends)))
    return sentence[: ends[num_words - 1]].lstrip() if num_words <= len(ends) - 2 else ""


def subject(passage: Passage) -> str:
    """What the passage is about, as its text writes it: "the Copper Heron" where it says so.

    A title that the text never mentions, such as a file's name, gives way to the first name in it.
    """
    title = passage.title.removeprefix("The ")
    if not content_words(title) & content_words(passage.text):
        return next(iter(names(passage.text)), passage.title)
    if re.search(rf"\bthe {re.escape(title)}\b", passage.text, re.IGNORECASE):
        return f"the {title}"
    return passage.title
