"""Count what a run's answers are made of: sentences as they stand, phrases, or sampled words.

    python benchmarks/answer_origins.py runs/quickstart

An adapter that learns the same sentence as the answer to many questions may learn to recite it. The
table says, for each kind of question, how many answers and answer tokens there are of each origin,
and to how many questions at most the same words are the answer. It loads no model.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from pathlib import Path
from typing import Literal

from pdtrain.evaluation.scores import markdown_table
from pdtrain.records import Answer, Passage, Question
from pdtrain.run_folder import RunFolder
from pdtrain.synthesis.text import normalise

Origin = Literal["its sentence", "its phrase", "sampled"]


def origin_of(answer: Answer, question: Question, passage: Passage) -> Origin:
    """Return where the words of an answer come from."""
    words = normalise(answer.text)
    if question.sentence >= 0:
        sentence = passage.text[slice(*passage.sentences[question.sentence])]
        if words == normalise(sentence):
            return "its sentence"
    return "its phrase" if words == normalise(question.phrase) else "sampled"


def table(run: RunFolder) -> str:
    """Return the counts of a run as a Markdown table, by kind of question and origin."""
    passages = {passage.id: passage for passage in run.passages()}
    questions = {question.id: question for question in run.questions()}
    answers, tokens = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    asked: dict[str, set[str]] = defaultdict(set)  # by the answer's words: ids of questions
    said: dict[tuple[str, str], set[str]] = defaultdict(set)  # the words of each kind and origin
    for answer in run.answers():
        question = questions[answer.question_id]
        place = question.kind, origin_of(answer, question, passages[answer.passage_id])
        answers[place] += 1
        tokens[place] += len(answer.token_ids)
        words = normalise(answer.text)
        asked[words].add(question.id)
        said[place].add(words)
    rows = [["kind", "answer", "answers", "tokens", "most questions with the same answer"]]
    for place in sorted(answers, key=lambda one: (one[0], -answers[one])):
        most = max(len(asked[words]) for words in said[place])
        rows.append([*place, str(answers[place]), str(tokens[place]), str(most)])
    most = max(map(len, asked.values()), default=0)
    rows.append(["all", "", str(answers.total()), str(tokens.total()), str(most)])
    return markdown_table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a run that has answers")
    print(table(RunFolder(parser.parse_args().run)))


if __name__ == "__main__":
    main()
