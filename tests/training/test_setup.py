"""Test that what the config says about the model reaches the steps."""

import pytest
from support import tiny_model
from tiny_training import logged, prepared, trained

from pdtrain.distributed.world import World
from pdtrain.training import training_set
from pdtrain.training.setup import set_up


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


def test_checkpointing_of_activations_changes_memory_alone(model, tmp_path):
    plain, spared = (
        trained(tmp_path / str(spares), model, train={"gradient_checkpointing": spares})
        for spares in (False, True)
    )
    assert logged(spared) == pytest.approx(logged(plain), abs=1e-5)


def test_dropout_is_not_silently_off(model, tmp_path):
    sections = {"train": {"epochs": 1}}
    without = trained(tmp_path / "without", model, **sections)
    dropped = trained(tmp_path / "dropped", model, adapter={"dropout": 0.5}, **sections)
    # a new adapter changes nothing, so its first loss is the same
    assert logged(dropped)[0] == pytest.approx(logged(without)[0], abs=1e-6)
    assert abs(logged(dropped)[-1] - logged(without)[-1]) > 1e-4


def test_a_setup_holds_what_training_reads_and_where_it_writes(model, tmp_path):
    config = prepared(tmp_path, model)
    read = []

    def of_run(chat):
        read.append(training_set.of_run(config, chat, None))
        return read[0]

    setup = set_up(config, World(), of_run, output=config.run.round(1), inputs="inputs")
    assert setup.schedule.examples == read[0].examples and setup.learned == read[0].learned()
    assert setup.schedule.output == config.run.round(1) and setup.schedule.inputs == "inputs"
    assert setup.start_weights is None and not setup.is_spread
    assert not config.run.deepspeed_file.exists()


def test_ranks_on_one_named_device_are_refused_before_anything_is_loaded(model, tmp_path):
    config = prepared(tmp_path, model, model={"device": "cuda:0"})
    with pytest.raises(ValueError, match=r"would put all 2 ranks on one GPU; leave it at auto"):
        set_up(config, World(0, 2, 0, 2, "a launcher"), lambda _: pytest.fail("nothing is read"))


def test_an_answer_that_fits_no_micro_batch_is_refused_before_any_step(model, tmp_path):
    config = prepared(tmp_path, model, train={"tokens_per_micro_batch": 20})
    with pytest.raises(ValueError, match=r"more than train\.tokens_per_micro_batch=20; set that"):
        set_up(config, World(), lambda chat: training_set.of_run(config, chat, None))
