"""Documents and configs that were made up: no crash, no lost character, no file that takes long.

The whole number of them, 12,000: `pytest -m "slow or not slow" tests/test_generated_inputs.py`.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from generated_inputs import Maker

from pdtrain.config import CorpusConfig, dump, from_dict, load, load_run
from pdtrain.documents.document import Source
from pdtrain.documents.library import READERS
from pdtrain.documents.splitting import split_document

MOST_SECONDS = 5.0
NUMBERS = [
    pytest.param(200, id="some"),
    pytest.param(8000, id="all", marks=pytest.mark.slow),
]
CONFIGS = [
    pytest.param(range(60), id="some"),
    *(
        pytest.param(range(at, at + 500), id=f"from_{at}", marks=pytest.mark.slow)
        for at in range(0, 4000, 500)
    ),
]


def count(text: str) -> int:
    return len(text) // 3 + 1


@pytest.mark.parametrize("number", NUMBERS)
def test_every_document_is_read_whole_or_refused_in_words(number):
    refused = 0
    for seed in range(number):
        made = Maker(seed).document()
        begun = time.monotonic()
        source = Source(f"a{made.suffix}", data=made.content.encode("utf-8", "surrogatepass"))
        try:
            documents = list(READERS[made.suffix](source, CorpusConfig()))
        except ValueError as error:  # `Unreadable` and others that say what is wrong
            assert str(error) and not made.kept, f"seed {seed}: {error}"
            refused += 1
            continue
        for document in documents:
            passages = split_document(document, 60, count)
            held = "".join(p.text[a:b] for p in passages for a, b in p.sentences)
            wanted = "".join(document.text.split())
            assert "".join(held.split()) == wanted, f"seed {seed}: characters were lost"
            assert all(p.num_tokens <= 60 or len(p.sentences) == 1 for p in passages)
        texts = "\n".join(f"{one.title}\n{one.text}" for one in documents)
        lost = [word for word in made.kept if word not in texts]
        assert not lost, f"seed {seed}: {made.suffix} without {lost[:3]}"
        seconds = time.monotonic() - begun
        assert seconds < MOST_SECONDS, f"seed {seed}: {seconds:.1f} s"
    assert refused < number / 4


@pytest.mark.parametrize("seeds", CONFIGS)
def test_every_config_is_taken_or_refused_in_words(tmp_path, seeds):
    """As a dictionary, as a YAML file, and as the stored config of a run folder."""
    taken = 0
    for seed in seeds:
        values = Maker(seed).config()
        begun = time.monotonic()
        try:
            config = from_dict(values)
        except ValueError as error:
            assert str(error), f"seed {seed}"
        else:
            taken += 1
            dump(config, tmp_path / "config.yaml")
            again = load_run(tmp_path)
            assert again.name == config.name and again.prompts == config.prompts, f"seed {seed}"
        path = tmp_path / "theirs" / "config.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(mutilated(seed, yaml.safe_dump(values, allow_unicode=True)))
        for read in (load, lambda path: load_run(Path(path).parent)):
            try:
                read(path)
            except ValueError as error:
                assert str(error), f"seed {seed}"
        seconds = time.monotonic() - begun
        assert seconds < MOST_SECONDS, f"seed {seed}: {seconds:.1f} s"
    assert taken > len(seeds) / 10


def mutilated(seed: int, text: str) -> str:
    """Return a text of which every third has a piece taken out or put in."""
    maker = Maker(seed)
    place = maker.rng.randrange(len(text) + 1)
    if seed % 3 == 1:
        return (
            text[:place]
            + maker.rng.choice(["&a ", "*a", "!!x ", "{", "- ", "\x00", ": "])
            + text[place:]
        )
    return text[:place] + text[place + 3 :] if seed % 3 == 2 else text
