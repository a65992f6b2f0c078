"""Which passage a question is about, and what each system reads before it."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from support import tiny_records

from pdtrain.evaluation.context import Contexts, gold_passage
from pdtrain.evaluation.examination import Prompts
from pdtrain.evaluation.retrieval import BM25
from pdtrain.evaluation.systems import BASE_BM25, SYSTEMS, named
from pdtrain.models.base import load_tokenizer
from pdtrain.models.chat.chat_template import joined, prove, titled
from pdtrain.records import Passage, TestQuestion
from pdtrain.synthesis.held_out import read_questions


def passage(document, text, title="Untitled"):
    return Passage(f"{document}-{text}", document, title, text, 0, len(text), 9, ((0, len(text)),))


PASSAGES = [
    passage("harbour.txt", "The pier is 260 metres long.", "The harbour"),
    passage("harbour.txt", "The ferry leaves at seven.", "The harbour"),
    passage("sub/lamp.md", "The lamp turns in nine seconds. The pier is far.", "The lamp"),
    passage("rows.jsonl:7", "A barometer holds cider. The pier is 260 metres away.", "Barometer"),
    passage("more.parquet:x.jsonl:8", "The pier is made of 260 beams.", "Beams"),
]


def gold(document, question, *answers):
    found = gold_passage(TestQuestion("id", document, question, answers), BM25(PASSAGES))
    return PASSAGES.index(found)


@pytest.mark.parametrize(
    "document", ["harbour.txt", "harbour", "HARBOUR", "The harbour", "the Harbour"]
)
def test_a_document_is_known_by_id_stem_and_title(document):
    assert gold(document, "When does it leave?", "seven") == 1
    assert gold(document, "How long is it?", "260 metres") == 0


@pytest.mark.parametrize("document", ["sub/lamp.md", "lamp", "The lamp"])
def test_a_document_in_a_folder_is_known_too(document):
    assert gold(document, "What about the pier?", "absent") == 2


@pytest.mark.parametrize(
    "document, place", [("7", 3), ("rows", 3), ("x.jsonl:8", 4), ("more", 4), ("beams", 4)]
)
def test_a_record_of_a_file_is_known_by_its_id(document, place):
    assert gold(document, "How long is the pier of Osk in metres?", "absent") == place


RECORDS = ["t.csv:7", "sub/t.json:7", "t.tsv:7", "x.zip/t.csv:7", "t.jsonl.gz:7", "squad:train:7"]


@pytest.mark.parametrize("document", RECORDS)
def test_a_record_of_any_kind_of_file_is_known_by_its_id(document):
    passages = [passage("a.txt", "The pier is long."), passage(document, "The lamp is old.")]
    asked = TestQuestion("id", "7", "How long is the pier?", ("long",))
    assert gold_passage(asked, BM25(passages)) == passages[1]


@pytest.mark.parametrize("document", ["lamp.md", "sub/lamp.md", "LAMP.md", "lamp.md.gz"])
def test_a_document_in_a_folder_is_known_by_its_file_name(document):
    assert gold(document, "How long is the pier of the harbour?", "260 metres") == 2


@pytest.mark.parametrize("document", ["rows.jsonl", "rows.jsonl:7", "rows.jsonl.gz:7"])
def test_a_record_is_known_by_its_file_name_too(document):
    assert gold(document, "How long is the pier of the harbour?", "260 metres") == 3


def test_a_whole_id_counts_before_the_file_name_of_another_document():
    passages = [passage("sub/a.md", "The pier is 260 metres long."), passage("a.md", "It is old.")]
    asked = TestQuestion("id", "a.md", "How long is the pier?", ("260 metres",))
    assert gold_passage(asked, BM25(passages)) == passages[1]


def test_a_question_without_a_document_is_about_any_though_some_have_no_title():
    passages = [passage("a.txt", "The pier is 260 metres long."), passage("t.csv:1", "Old.", "")]
    asked = TestQuestion("id", "", "How long is the pier?", ("260 metres",))
    assert gold_passage(asked, BM25(passages)) == passages[0]


def test_the_passage_that_holds_an_answer_beats_the_one_that_sounds_like_it():
    assert gold("harbour", "Is the pier 260 metres long, and the boat?", "absent", "at SEVEN") == 1


def test_where_several_hold_the_answer_the_best_match_wins():
    assert gold("", "How long is the pier of the harbour?", "260 metres") == 0
    assert gold("", "Which barometer is 260 metres from the pier?", "260 metres") == 3


def test_a_question_without_document_or_answer_in_sight_gets_the_best_match():
    assert gold("", "What turns with the lamp?", "absent") == 2
    assert gold("nowhere", "What holds cider?", "absent") == 3


def test_joined_passages_hold_all_texts_in_order():
    together = joined(PASSAGES[:2])
    assert together.text == "The pier is 260 metres long.\n\nThe ferry leaves at seven."
    assert together.title == "The harbour"


@pytest.mark.parametrize("num_retrieved", [1, 2])
def test_a_prompt_holds_the_passages_that_the_system_reads(trained, num_retrieved):
    config = trained.config()
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    passages = tiny_records()[0]
    contexts = Contexts(config, [])
    contexts.retrievers["dense"] = lambda question, k: passages[-k:]

    def read_by(name, question):
        system = replace(SYSTEMS[name], num_passages=num_retrieved)
        prompt = chat.tokenizer.decode(
            contexts.prompt(system, question, chat), skip_special_tokens=False
        )
        assert question.question in prompt
        return [i for i, passage in enumerate(passages) if passage.text in prompt]

    for number, question in enumerate(read_questions(config.evaluate.questions)):
        for name in ("base_closed_book", "adapter_closed_book"):
            assert read_by(name, question) == []
        own = read_by("teacher_open_book", question)
        assert own == [number] if question.document else len(own) == 1
        for name in ("base_rag", "adapter_rag"):
            assert len(read_by(name, question)) == num_retrieved
        for name in ("base_dense_rag", "adapter_dense_rag"):
            assert read_by(name, question) == list(range(3))[-num_retrieved:]


def test_questions_about_documents_that_are_not_there_are_counted_and_said(trained, caplog):
    config = trained.config()
    document = next(iter(config.run.passages())).document_id
    questions = [TestQuestion("id", one, "Who?", ("He",)) for one in (document, "gone.txt", "")]
    student = SimpleNamespace(chat=None, window=None)
    with caplog.at_level("WARNING", "pdtrain"):
        Prompts(config, questions, [SYSTEMS["base_closed_book"]], student)
        assert not caplog.text
        Prompts(config, questions, [SYSTEMS["teacher_open_book"]], student)
    assert "1 of 3 held-out questions name a document that is not there" in caplog.text


def test_a_prompt_that_does_not_fit_the_window_loses_the_passages_found_last(trained):
    config = trained.config()
    chat = prove(load_tokenizer(config.model), config.prompts, None)
    question = read_questions(config.evaluate.questions)[0]
    three = named("base_rag_3")
    whole = Contexts(config, [three]).prompt(three, question, chat)
    gold = max(len(chat.text_ids(question.answers[0])), config.evaluate.max_new_tokens)
    short = Contexts(config, [three], window=len(whole) + gold - 1)
    cut = short.prompt(three, question, chat)
    assert len(cut) < len(whole) and short.num_shortened == {"base_rag_3": 1}
    tiny = Contexts(config, [three], window=1)  # one passage is left, and the backend refuses it
    one = Contexts(config, [BASE_BM25]).prompt(BASE_BM25, question, chat)
    assert tiny.prompt(three, question, chat) == one
    fits = Contexts(config, [three], window=len(whole) + gold)
    assert fits.prompt(three, question, chat) == whole
    assert not fits.num_shortened["base_rag_3"]
    # a long gold answer must fit behind its own prompt, and takes no room from others
    long = replace(question, answers=(" ".join(["oyster"] * 60),))
    assert len(fits.prompt(three, long, chat)) < len(whole)
    assert fits.prompt(three, question, chat) == whole


def test_a_passage_of_another_document_opens_with_its_title():
    found = titled([PASSAGES[0], PASSAGES[1], PASSAGES[2]])
    assert [passage.text for passage in found[:2]] == [p.text for p in PASSAGES[:2]]
    assert found[2].text == f"The lamp\n\n{PASSAGES[2].text}"
    assert joined(found).title == "The harbour"


def test_a_gold_answer_stands_in_a_passage_as_whole_words():
    """Otherwise "8" would stand in "1892", and "1,750" not in "1750"."""
    passages = [
        passage("a.txt", "How many bells has the tower? It was built in 1892, and bells rang."),
        passage("a.txt", "It has 8 bells."),
        passage("a.txt", "It weighs 1750 pounds."),
    ]

    def place(question, answer):
        asked = TestQuestion("id", "a", question, (answer,))
        return passages.index(gold_passage(asked, BM25(passages)))

    assert place("How many bells has the tower?", "8") == 1
    assert place("How heavy is the tower?", "1,750") == 2
