"""documents → passages: nothing lost, nothing over budget, whole sentences."""

import random
import re
from itertools import pairwise

import pytest
from support import tiny_config, tiny_model

from pdtrain.config import CorpusConfig
from pdtrain.documents import passages as stage
from pdtrain.documents.document import Document
from pdtrain.documents.splitting import split_document
from pdtrain.storage import read_shards

WORDS = "the pier of Osk is long and 3.5 metres high; Dr. Ünver’s boat, “Petrel”, sails".split()
NOTHING_BETWEEN = "東京の港は古い。船は三隻ある。"


def words_in(text):
    """A budget that is easy to follow: one token a word, and one for every five characters."""
    return sum(1 + len(word) // 5 for word in text.split())


def random_document(rng):
    """Sentences of very different lengths, over-long words, blank lines, scripts without blanks."""
    parts = []
    for _ in range(rng.randrange(1, 25)):
        kind = rng.random()
        if kind < 0.1:
            parts.append("x" * rng.randrange(1, 400))
        elif kind < 0.2:
            parts.append(NOTHING_BETWEEN * rng.randrange(1, 9))
        elif kind < 0.3:
            parts.append(rng.choice(["...", "?!", "“", "1.", "\n", "  "]))
        else:
            length = rng.choice([1, 3, 8, 8, 8, 120])
            parts.append(" ".join(rng.choices(WORDS, k=length)) + rng.choice([".", "!", "?", ""]))
    return "".join(part + rng.choice([" ", "\n", "  ", "\n\n"]) for part in parts)


@pytest.mark.parametrize("max_tokens", [16, 60, 500])
def test_passages_hold_every_character_once_within_the_budget(max_tokens):
    rng = random.Random(max_tokens)
    for number in range(120):
        text = random_document(rng)
        passages = split_document(Document("d", "t", text), max_tokens, words_in)
        assert not_blank("".join(p.text for p in passages)) == not_blank(text), f"number {number}"
        end = 0
        for passage in passages:
            assert passage.text == text[passage.start : passage.end]
            assert passage.start >= end, "passages do not overlap"
            assert passage.num_tokens == words_in(passage.text) <= max_tokens
            end = passage.end


def not_blank(text):
    return "".join(text.split())


def test_the_sentences_of_a_passage_hold_all_of_it():
    rng = random.Random(0)
    for _ in range(100):
        for passage in split_document(Document("d", "t", random_document(rng)), 40, words_in):
            pieces = [passage.text[a:b] for a, b in passage.sentences]
            assert not_blank("".join(pieces)) == not_blank(passage.text)
            assert all(piece and piece == piece.strip() for piece in pieces)


def test_no_text_makes_no_passage():
    assert split_document(Document("d", "t", " \n\n "), 16, words_in) == []


def test_passages_are_about_equally_long():
    text = " ".join(f"Sentence number {n} has six words." for n in range(60))
    lengths = [p.num_tokens for p in split_document(Document("d", "t", text), 100, words_in)]
    assert max(lengths) - min(lengths) <= 2 * words_in("Sentence number 10 has six words.")


def test_a_sentence_is_cut_only_when_it_must_be():
    text = " ".join(f"Sentence number {n} has six words." for n in range(60))
    for passage in split_document(Document("d", "t", text), 50, words_in):
        assert all(re.fullmatch(r"Sentence number \d+ has six words\.", s) for s in said(passage))


def said(passage):
    return [passage.text[a:b] for a, b in passage.sentences]


def test_ids_name_the_content_and_its_place():
    def ids(document, text):
        return [p.id for p in split_document(Document(document, "t", text), 40, words_in)]

    text = "First here. " * 20 + "Other here. " * 20
    before, again, edited = ids("d", text), ids("d", text), ids("d", text[:-2] + "!")
    assert before == again and len(set(before)) == len(before)
    assert before[:-1] == edited[:-1] and before[-1] != edited[-1]
    assert not set(before) & set(ids("e", text)), "another document's passages"


# --- The stage --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


def write(folder, name, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def split(tmp_path, model, **settings):
    settings = {"documents": str(tmp_path / "corpus")} | settings
    config = tiny_config(tmp_path / "run", model, corpus=settings)
    stage.split(config)
    return list(read_shards(config.folder / "passages"))


def test_documents_without_text_are_an_error_and_one_among_others_is_not(tmp_path, model):
    write(tmp_path / "corpus", "blank.txt", " \n\n ")
    with pytest.raises(ValueError, match=r"no document in .* holds text \(files read: 1\)"):
        split(tmp_path, model)
    write(tmp_path / "corpus", "full.txt", "The pier.")
    assert [row["text"] for row in split(tmp_path, model)] == ["The pier."]


def test_moving_the_corpus_changes_nothing(tmp_path, model):
    write(tmp_path / "corpus", "a.txt", "The pier.")
    write(tmp_path / "corpus/sub", "b.txt", "The pier.")
    before = split(tmp_path, model)
    (manifest,) = tmp_path.rglob("manifest.json")
    written = manifest.stat().st_mtime_ns
    (tmp_path / "corpus").rename(tmp_path / "moved")
    assert split(tmp_path, model, documents=str(tmp_path / "moved")) == before
    assert manifest.stat().st_mtime_ns == written, "the stage ran again"


def test_another_budget_splits_again(tmp_path, model):
    write(tmp_path / "corpus", "a.txt", "The pier is very long. " * 30)
    few, many = (split(tmp_path, model, max_passage_tokens=n) for n in (200, 50))
    assert 1 < len(few) < len(many)
    assert all(row["num_tokens"] <= 50 for row in many)


def test_passages_may_overlap(tmp_path):
    sentences = [f"The pier of Osk is {number} metres long." for number in range(40)]
    (tmp_path / "a.txt").write_text(" ".join(sentences))
    model = tiny_model(tmp_path / "model")

    def passages(overlap):
        corpus = {"documents": str(tmp_path / "a.txt"), "max_passage_tokens": 128}
        corpus |= {"overlap_tokens": overlap}
        config = tiny_config(tmp_path / f"run{overlap}", model, corpus=corpus)
        stage.split(config)
        return list(config.run.passages())

    apart, over = passages(0), passages(48)
    assert all(a.end <= b.start for a, b in pairwise(apart))
    assert len(over) > len(apart) and all(p.num_tokens <= 128 for p in over)
    for before, after in pairwise(over):
        shared = before.text[after.start - before.start :]
        assert after.text.startswith(shared)
        assert set(re.findall(r"[^.]+\.", shared.replace(". ", "."))) <= {*sentences}


def test_an_overlap_of_more_than_half_is_refused():
    with pytest.raises(ValueError, match=r"overlap_tokens must be from 0 to 256, half of"):
        CorpusConfig(overlap_tokens=257)
