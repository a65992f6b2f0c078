"""Test that knobs of the rounds that cannot be meant are refused."""

import pytest

from pdtrain.config import from_dict


@pytest.mark.parametrize(
    "values, reason",
    [
        ({"most": -1}, r"rounds\.most must be >= 0 \(0 is off\), got -1"),
        ({"questions_per_miss": 0}, r"rounds\.questions_per_miss must be > 0, got 0"),
        ({"replay": -0.5}, r"rounds\.replay must be >= 0, got -0\.5"),
        ({"least_gain": float("nan")}, r"rounds\.least_gain must be >= 0, got nan"),
    ],
)
def test_a_knob_out_of_range_is_refused(values, reason):
    with pytest.raises(ValueError, match=reason):
        from_dict({"rounds": values})


@pytest.mark.parametrize(
    "values, reason",
    [
        ({"questions": {"per_sentence": 0}}, r"set questions\.per_sentence >= 1"),
        ({"questions": {"writer": "model"}}, r"set questions\.writer=sentence"),
        (
            {"questions": {"writer": "auto"}, "model": {"name": "owner/model"}},
            r"questions\.writer=auto has a capable model write questions",
        ),
        ({"questions": {"given": "asked.jsonl"}}, r"set questions\.given_and_generated=true"),
    ],
)
def test_what_rounds_cannot_work_with_is_refused(values, reason):
    from_dict(values)
    with pytest.raises(ValueError, match=reason):
        from_dict(values | {"rounds": {"most": 1}})


@pytest.mark.parametrize(
    "questions", [{"writer": "auto"}, {"given": "asked.jsonl", "given_and_generated": True}]
)
def test_rounds_take_what_asks_for_phrases(questions):
    config = from_dict({"questions": questions, "rounds": {"most": 1}})
    assert config.question_writer == "sentence"


def test_raw_text_has_no_rounds():
    with pytest.raises(ValueError, match=r"set rounds\.most=0"):
        from_dict({"rounds": {"most": 1}, "train": {"objective": "raw_text"}})
