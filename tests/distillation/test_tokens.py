"""Test that what is mapped from token shards is what was tokenised, that stale shards are made
again, and that the memory that planning takes is flat."""

import threading
import tracemalloc
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from support import tiny_config, tiny_model, tiny_records, write_records

from pdtrain import api
from pdtrain.distillation import examples, micro_batches, packing
from pdtrain.distillation.examples import Example, from_answers, from_windows, teacher_key
from pdtrain.distillation.schedule import Schedule
from pdtrain.distillation.tokens import shards, source, table
from pdtrain.distillation.tokens.record_index import RecordIndex
from pdtrain.models.base import load_tokenizer
from pdtrain.models.chat.chat_template import joined, prove
from pdtrain.records import (
    Answer,
    Question,
    RegularizationSample,
    content_id,
    rng_for,
)
from pdtrain.storage import read_json, sha256_file, write_checked
from pdtrain.training import train, training_set


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


def records():
    """Return tiny records with one question more, which needs two passages."""
    passages, questions, answers = tiny_records(5, 6)
    first, other = passages[2].id, passages[0].id
    cross = Question(content_id("cross"), first, "Where both?", "cross", -1, "", other)
    answer = Answer(content_id("a"), cross.id, first, "-", (7, 8), True, checked=False)
    empty = Answer(content_id("e"), cross.id, first, "", (), True)
    return passages, [*questions, cross], [*answers, answer, empty]


def samples():
    """Return regularization samples of both kinds."""
    kinds = ("text", "topic", "topic", "text", "text")
    return [
        RegularizationSample(content_id(i), kind, f"Tell me {i} of {kind}", "-", (4 + i,) * i)
        for i, kind in enumerate(kinds)
    ]


@pytest.fixture
def config(tmp_path, model):
    made = tiny_config(tmp_path / "run", model, retain={"weight": 0.5})
    write_records(made, *records())
    return made


@pytest.fixture
def chat(config):
    return chat_of(config)


def chat_of(config):
    return prove(load_tokenizer(config.model), config.prompts, None)


def made(config, chat):
    return source.table(config, source.of_objective(config), chat)


def folder(config):
    return config.run.tokens_folder / "answers"


# --- What is mapped ---------------------------------------------------------------------------


def one_by_one(chat):
    """Return the examples of the records, each prompt encoded alone: the slow, obvious way."""
    passages, questions, answers = records()
    passage_of, question_of = ({r.id: r for r in found} for found in (passages, questions))
    found = []
    for answer in answers:
        question, passage = question_of[answer.question_id], passage_of[answer.passage_id]
        if question.other_passage_id:
            passage = joined([passage, passage_of[question.other_passage_id]])
        teacher = tuple(chat.teacher(passage, question.text, question.sentence))
        student = tuple(chat.student(question.text))
        if answer.token_ids:
            other = question.other_passage_id
            found.append(
                Example(
                    answer.id,
                    answer.passage_id,
                    teacher,
                    student,
                    answer.token_ids,
                    other,
                    answer.checked,
                )
            )
    return found


@pytest.mark.parametrize("at_a_time", [1, 4, 1000])
def test_prompts_encoded_together_are_those_encoded_alone(chat, monkeypatch, at_a_time):
    monkeypatch.setattr(examples, "PROMPTS_AT_A_TIME", at_a_time)
    assert from_answers(*records(), chat) == one_by_one(chat)


def test_what_is_mapped_is_what_was_tokenised(config, chat, monkeypatch):
    monkeypatch.setattr(shards, "EXAMPLES_AT_A_TIME", 4)  # so that runs of a passage are cut
    small = partial(shards.write, examples_per_shard=7)
    monkeypatch.setattr(shards, "write", small)
    wanted, found = one_by_one(chat), made(config, chat)
    assert len(list(folder(config).glob("*.safetensors"))) == 5
    assert list(found) == wanted and len(found) == len(wanted) == 31
    assert found[-1] == wanted[-1] and list(found[3:20:5]) == wanted[3:20:5]
    assert [e.key for e in found] == [teacher_key(e) for e in wanted]
    with pytest.raises(IndexError):
        found[31]


def test_prefixes_that_prompts_share_are_stored_once(config, chat):
    found = made(config, chat)
    (shard, _), *_ = found.shards
    assert (shard.run_sizes_r[:-1] > 20).all(), "the passage is in it"
    assert shard.run_sizes_r[-1] == 0, "a prompt that stands alone shares nothing"
    read = sum(len(e.teacher_prompt) + len(e.student_prompt) + len(e.answer) for e in found)
    assert len(shard.tokens_t) < 0.75 * read


def test_columns_are_those_of_plain_examples(config, chat):
    found, wanted = made(config, chat), one_by_one(chat)
    chosen = np.array([30, 2, 3, 29, 7])
    for one, plain in (
        (found, wanted),
        (found.taken(chosen), [wanted[i] for i in chosen]),
        (found.taken(chosen)[1:4], [wanted[i] for i in chosen[1:4]]),
    ):
        assert list(one) == plain
        got, right = table.columns(one), table.columns(plain)
        for name in ("teacher", "student", "answer"):
            assert getattr(got, name).tolist() == getattr(right, name).tolist()
        for of in (got, right):
            assert [of.names[i] for i in of.passages] == [e.passage_id for e in plain]
            others = ["" if i < 0 else of.names[i] for i in of.others]
            assert others == [e.other_passage_id for e in plain]
        assert [name.decode() for name in table.answer_ids(one)] == [e.answer_id for e in plain]
        assert table.teacher_keys(one).tolist() == [int(teacher_key(e), 16) for e in plain]
        assert [one[i] for i in table.batch_order(one)] == packing.in_order(plain)


def test_tables_are_joined_whole_and_in_part(config, chat):
    answers = made(config, chat)
    write_stage(config.run.regularization_folder, samples())
    other = source.table(config, source.of_regularization(config), chat)
    few = answers.taken(np.array([4, 1]))
    for one in (answers, few):
        both = table.joined(one, other)
        assert list(both) == [*one, *other]
        of = table.columns(both)
        assert [of.names[i] for i in of.passages] == [e.passage_id for e in both]
    assert table.joined([], other) is other and table.joined(answers, []) is answers


def write_stage(folder, found):
    from pdtrain.stage import run_units

    units = {record.id: record for record in found}
    run_units(folder, "records", {}, units, lambda _, record: [record.to_json()], "records")


def test_regularization_and_windows_are_mapped_too(config, chat):
    write_stage(config.run.regularization_folder, samples())
    found = training_set.regularization_examples(config, chat)
    for one, example in zip(samples()[1:], found, strict=True):  # the first has no token
        plain = one.kind == "text"
        wanted = chat.tokenizer(one.prompt)["input_ids"] if plain else chat.student(one.prompt)
        assert example.student_prompt == example.teacher_prompt == tuple(wanted)
        assert (example.answer, example.passage_id) == (one.token_ids, f"retained {plain}")
    raw = replace(config, train=replace(config.train, objective="raw_text"))
    sizes = raw.raw_text.window_tokens, raw.raw_text.overlap
    assert list(made(raw, chat)) == from_windows(records()[0], chat, *sizes)


def test_records_are_found_by_their_ids(config):
    questions = records()[1]
    index = RecordIndex(config.run.questions_folder, Question, num_kept=2)
    for question in [*questions, *questions[::-1]]:
        assert index.get(question.id) == question
    assert index.get("another") is None


def test_an_answer_to_an_unknown_question_is_refused(config, chat):
    passages, questions, answers = records()
    with pytest.raises(ValueError, match="the answers are of other passages or questions"):
        from_answers(passages, questions[:3], answers, chat)
    with pytest.raises(ValueError, match="the answers are of other passages or questions"):
        from_answers(passages[1:], questions, answers[-2:], chat)


# --- When they are made -----------------------------------------------------------------------


def stamps(config):
    return {p.name: p.stat().st_mtime_ns for p in folder(config).iterdir() if p.name != ".lock"}


def test_they_are_made_once(config, chat, capfd):
    made(config, chat)
    before = stamps(config)
    assert sorted(name.rpartition(".")[2] for name in before) == ["json", "safetensors"]
    assert list(made(config, chat_of(config))) == one_by_one(chat)
    assert stamps(config) == before
    assert "made again" not in capfd.readouterr().err


def other_prompts(config, **changed):
    return replace(config, prompts=replace(config.prompts, **changed))


@pytest.mark.parametrize(
    "changed, reason",
    [
        ({"system": "Be brief."}, "the chat template and the prompts or their date have changed"),
        ({"date": "2020-02-20"}, "the prompts or their date has changed"),
    ],
)
def test_other_prompts_make_them_again(config, chat, capfd, changed, reason):
    made(config, chat)
    other = other_prompts(config, **changed)
    assert list(made(other, chat_of(other))) == from_answers(*records(), chat_of(other))
    assert f"{folder(config)} is made again: {reason}" in capfd.readouterr().err


def test_another_tokenizer_and_another_template_make_them_again(config, chat, capfd):
    made(config, chat)
    tokenizer = load_tokenizer(config.model)
    tokenizer.add_tokens(["harbour"])
    made(config, prove(tokenizer, config.prompts, None))
    assert "made again: the tokenizer has changed" in capfd.readouterr().err
    tokenizer.chat_template = tokenizer.chat_template.replace("\n", "\n\n")
    made(config, prove(tokenizer, config.prompts, None))
    assert "made again: the chat template has changed" in capfd.readouterr().err


def test_other_answers_make_them_again_and_their_files_go(config, chat, capfd):
    made(config, chat)
    before = stamps(config)
    write_records(config, *records()[:2], records()[2][:5])
    assert len(made(config, chat)) == 5
    assert "made again: what was said has changed" in capfd.readouterr().err
    assert len(stamps(config)) == 2 and len(stamps(config).keys() & before.keys()) == 1


def test_a_damaged_or_missing_file_is_made_again(config, chat, capfd):
    made(config, chat)
    (path,) = folder(config).glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert list(made(config, chat)) == one_by_one(chat)
    assert "made again: a file was damaged or is missing" in capfd.readouterr().err
    path.unlink()
    assert list(made(config, chat)) == one_by_one(chat)


def test_a_kill_while_they_are_written_leaves_no_manifest_of_half_of_them(
    config, chat, monkeypatch
):
    def die(path, value):
        raise KeyboardInterrupt

    monkeypatch.setattr(shards, "write_checked", die)
    with pytest.raises(KeyboardInterrupt):
        made(config, chat)
    assert not (folder(config) / "manifest.json").exists()
    monkeypatch.setattr(shards, "write_checked", write_checked)
    assert list(made(config, chat)) == one_by_one(chat)


def test_of_several_readers_one_makes_them_and_the_others_wait(config, chat, monkeypatch):
    made_by, real, found = [], shards.write, []

    def write(*arguments, **options):
        made_by.append(threading.get_ident())
        return real(*arguments, **options)

    monkeypatch.setattr(shards, "write", write)
    readers = [
        threading.Thread(target=lambda: found.append(list(made(config, chat)))) for _ in range(4)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert len(made_by) == 1 and found == [one_by_one(chat)] * 4


def test_a_rank_that_is_not_first_waits_for_what_the_first_writes(config, chat, monkeypatch):
    late = threading.Timer(0.5, lambda: made(config, chat))
    late.start()
    found = source.table(config, source.of_objective(config), chat, patience_seconds=60.0)
    late.join()
    assert list(found) == one_by_one(chat)


def test_the_stage_that_writes_answers_has_them_tokenised(config, monkeypatch):
    monkeypatch.setattr(api, "stage_function", lambda name: lambda config, **_: None)
    api.run_stages(config, ["questions"])
    assert not config.run.tokens_folder.exists()
    api.run_stages(config, ["answers"])
    before = stamps(config)
    assert len(before) == 2 and not (config.run.tokens_folder / "retain").exists()
    write_stage(config.run.regularization_folder, samples())
    api.run_stages(config, ["retain"])
    assert (config.run.tokens_folder / "retain/manifest.json").exists()
    monkeypatch.setattr(source, "load_tokenizer", lambda model: pytest.fail("nothing changed"))
    api.run_stages(config, ["answers", "retain"])
    assert stamps(config) == before


def test_training_reads_them_and_makes_none(config, monkeypatch):
    alone = replace(config, retain=replace(config.retain, weight=0.0))
    source.prepare(alone)
    before = stamps(alone)
    monkeypatch.setattr(examples, "each_of_answers", lambda *_: pytest.fail("tokenised again"))
    train.run(alone)
    assert stamps(alone) == before


def test_nothing_in_them_is_a_pickle(config, chat):
    made(config, chat)
    manifest = read_json(folder(config) / "manifest.json")
    for shard in manifest["shards"]:
        path = folder(config) / shard["name"]
        head = path.read_bytes()
        size = int.from_bytes(head[:8], "little")
        assert head[8:9] == b"{" and head[8 + size - 1 : 8 + size].strip() in (b"}", b"")
        assert sha256_file(path) == shard["sha256"]


# --- Flat memory ------------------------------------------------------------------------------


def many(count):
    """Yield examples of 20 answers a passage."""
    rng = rng_for(0, "many")
    for i in range(count):
        passage = (i // 20, 1, 2, 3, *range(100, 120))
        question = (5, rng.randrange(1000), 6)
        answer = tuple(rng.randrange(1000) for _ in range(1 + i % 7))
        yield Example(f"{i:016x}", f"p{i // 20}", passage + question, question, answer)


def table_of(folder, count):
    manifest = shards.write(folder, {"inputs": "0" * 64}, many(count), count)
    return table.ExampleTable([(s, manifest["passages"]) for s in shards.mapped(folder, manifest)])


def planned(config, found):
    """Plan as training does, up to the first step's micro-batches; return (peak, held) in bytes."""
    tracemalloc.start()
    budget = training_set.within(found, 3 * len(found), seed=0)
    schedule = Schedule(config, "inputs", budget)
    schedule.refuse_oversized()
    cuts = schedule.micro_batches(1)
    calls = micro_batches.teacher_calls(schedule.teacher_examples, schedule.limits.tokens)
    assert cuts and calls.num_answers == len(budget) > 0.5 * len(found)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak, held


def test_planning_a_training_takes_under_100_bytes_an_answer(tmp_path, model):
    config = tiny_config(tmp_path / "run", model, train={"answers_per_step": 64})
    schedule = Schedule(config, "", [])
    assert schedule.shape and schedule.weights  # what is loaded on first use is loaded
    few, more = 2_000, 10_000
    measured = [planned(config, table_of(tmp_path / str(n), n)) for n in (few, few, more)][1:]
    peak, held = ((b - a) / (more - few) for a, b in zip(*measured, strict=True))
    assert peak < 100 and held < 60, f"{peak:.1f} bytes an answer at the peak, {held:.1f} held"


def test_shards_are_written_in_memory_that_is_flat(tmp_path):
    peaks = []
    for count in (1_000, 1_000, 5_000):
        tracemalloc.start()
        shards.write(tmp_path / str(count), {"inputs": "0" * 64}, many(count), count, 500)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[2] - peaks[1]) / 4_000 < 50, "a passage's id for 20 answers, and no more"
