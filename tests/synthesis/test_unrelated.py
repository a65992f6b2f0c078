"""What forgetting is measured on: bundled, or a file of one's own."""

import pytest

from pdtrain.synthesis import unrelated


def test_the_bundled_ones_are_many_and_each_once():
    texts, questions = unrelated.read()
    assert len(texts) >= 6 and len(questions) >= 20
    assert len(set(texts)) == len(texts) and len(set(questions)) == len(questions)
    assert all(50 <= len(text.split()) <= 120 for text in texts)


def test_a_file_gives_its_own(tmp_path):
    path = tmp_path / "u.jsonl"
    path.write_text(
        '{"text": "A text of words."}\n{"question": "What now?"}\n{"text": "Two more."}\n'
    )
    assert unrelated.read(str(path)) == (("A text of words.", "Two more."), ("What now?",))


@pytest.mark.parametrize(
    "text", ["", '{"text": ""}\n', '{"text": "One"}\n', '{"answer": "No no"}\n', '["a"]\n']
)
def test_a_file_without_them_is_refused_without_quoting_it(tmp_path, text):
    path = tmp_path / "u.jsonl"
    path.write_text('{"text": "Good enough"}\n' * bool(text) + text)
    with pytest.raises(ValueError, match=r"u\.jsonl: expected .* in every record, found") as error:
        unrelated.read(str(path))
    assert "Good enough" not in str(error.value)


def test_a_file_that_is_not_there_says_what_belongs_into_it(tmp_path):
    with pytest.raises(ValueError, match=r"absent\.jsonl' is not a file; expected JSONL with"):
        unrelated.read(str(tmp_path / "absent.jsonl"))
