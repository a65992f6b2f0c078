"""Records of stages that someone else wrote."""

from __future__ import annotations

import pytest

from pdtrain.records import Answer, Passage

ANSWER = Answer("a", "q", "p", "It is long.", (1, 2, 3), True).to_json()
PASSAGE = Passage("p", "d.txt", "Pier", "It is long.", 0, 11, 3, ((0, 11),), ("Part",)).to_json()


def test_records_come_back():
    assert Answer.from_json(ANSWER).to_json() == ANSWER
    assert Passage.from_json(PASSAGE).to_json() == PASSAGE


@pytest.mark.parametrize(
    "change",
    [
        {"text": 7},
        {"id": None},
        {"finished": 1},
        {"token_ids": "123"},
        {"token_ids": [1, "2"]},
        {"token_ids": [1, -2]},
        {"token_ids": [2**31]},
        {"token_ids": [True]},
        {"token_ids": {"a": 1}},
    ],
    ids=str,
)
def test_an_answer_of_other_kinds_is_refused(change):
    with pytest.raises(ValueError, match=rf"an? Answer whose {next(iter(change))} is no"):
        Answer.from_json(ANSWER | change)


@pytest.mark.parametrize(
    "change",
    [
        {"sentences": [[0, 1.5]]},
        {"sentences": [7]},
        {"sentences": "ab"},
        {"section": [7]},
        {"num_tokens": "3"},
        {"start": True},
    ],
    ids=str,
)
def test_a_passage_of_other_kinds_is_refused(change):
    with pytest.raises(ValueError, match=rf"a Passage whose {next(iter(change))} is no"):
        Passage.from_json(PASSAGE | change)
