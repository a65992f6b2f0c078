"""Units on the actors of a Ray cluster: with a stand-in for the package, then with a real one."""

import os
import signal
import sys
import threading
import time
import types
from dataclasses import replace
from pathlib import Path

import pytest
from support import DATA, tiny_config, tiny_model

from pdtrain import api, stage
from pdtrain.config import as_yaml
from pdtrain.generation import workers
from pdtrain.processes import ray_pool
from pdtrain.processes.leading import Leader
from pdtrain.processes.ray_pool import RayPool
from pdtrain.processes.shares import Share
from pdtrain.processes.workers import UnitFailed
from pdtrain.storage import read_json

UNITS = {f"unit-{number}": number % 4 for number in range(40)}


class RayError(Exception):
    """Be what Ray raises."""


class LostError(RayError):
    """Be what Ray raises where an actor is gone."""


class TaskError(RayError):
    """Be what Ray raises where an actor's method has raised something."""

    def __init__(self, cause):
        self.cause = cause


class Ray(types.ModuleType):
    """Be Ray with actors in this process, which die when they are told to.

    Args:
        cpus: that the cluster has.
        dies: from (number of the actor, number of its call) to whether it is lost then.
    """

    exceptions = types.SimpleNamespace(RayError=RayError, RayTaskError=TaskError)

    def __init__(self, cpus=3, dies=lambda actor, call: False):
        super().__init__("ray")
        self.cpus, self.dies = cpus, dies
        self.actors, self.most, self.killed, self.num_calls, self.is_up = [], 0, 0, 0, False

    def init(self, address=None, **_):
        if address == "nowhere":
            raise ConnectionError(address)
        self.is_up, self.address = True, address

    def shutdown(self):
        self.is_up = False

    def cluster_resources(self):
        return {"CPU": self.cpus}

    def kill(self, _):
        self.killed += 1

    def remote(self, **options):
        self.options = options
        return lambda kind: types.SimpleNamespace(remote=lambda *args: self.handle(kind(*args)))

    def handle(self, actor):
        handle = types.SimpleNamespace(number=len(self.actors), calls=0, is_lost=False, waiting=0)
        handle.open = handle.do = None

        def method(name):
            def remote(*args):
                handle.waiting += 1
                self.most = max(self.most, handle.waiting)
                self.num_calls += 1
                return Call(handle, getattr(actor, name), args, self.num_calls)

            return types.SimpleNamespace(remote=remote)

        handle = Handle(handle)
        handle.open, handle.do = method("open"), method("do")
        self.actors.append(handle)
        return handle

    def wait(self, futures, **_):
        first = min(futures, key=lambda call: call.number)
        return [first], [future for future in futures if future is not first]

    def get(self, call):
        handle = call.handle
        handle.waiting -= 1
        handle.calls += 1
        handle.is_lost |= self.dies(handle.number, handle.calls)
        if handle.is_lost:
            raise LostError
        try:
            return call.work(*call.args)
        except Exception as error:
            raise TaskError(error) from None


class Handle:
    """Hold one actor; unlike a namespace it can be a key."""

    def __init__(self, found):
        self.__dict__.update(found.__dict__)


class Call:
    """Hold a call that is done when its result is asked for."""

    def __init__(self, handle, work, args, number):
        self.handle, self.work, self.args, self.number = handle, work, args, number


def make(key, size):
    if key == os.environ.get("BAD_UNIT"):
        raise UnitFailed("no answer")
    return [{"id": f"{key}/{place}", "text": key * place} for place in range(size)]


@pytest.fixture
def settings(tmp_path, monkeypatch):
    def function(config, share):
        stage.run_units(config.folder / "records", "records", {}, UNITS, make, "units", share=share)

    monkeypatch.setattr(api, "stage_function", lambda name: function)
    monkeypatch.setattr(ray_pool, "SECONDS_BETWEEN_COUNTS", 0.0)
    return as_yaml(tiny_config(tmp_path / "run", "none"))


@pytest.fixture
def ray(monkeypatch):
    def install(*args, **options):
        found = Ray(*args, **options)
        monkeypatch.setitem(sys.modules, "ray", found)
        return found

    return install


def run(folder, pool):
    stage.run_units(folder, "records", {}, UNITS, make, "units", share=Share(pool=pool))


@pytest.fixture
def alone(tmp_path):
    stage.run_units(tmp_path / "alone", "records", {}, UNITS, make, "units")
    return output(tmp_path / "alone")


def output(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_actors_make_the_records_of_one_process(tmp_path, settings, ray, alone):
    found = ray()
    run(tmp_path / "records", RayPool("records", settings))
    assert output(tmp_path / "records") == alone
    assert len(found.actors) == 3 and not found.is_up and found.killed == 3
    assert all(actor.calls > 5 for actor in found.actors)
    assert found.most <= ray_pool.IN_FLIGHT, "the others wait here, where a loss costs nothing"


def test_where_nothing_is_to_do_no_cluster_is_asked(tmp_path, settings, ray, alone):
    run(tmp_path / "alone", RayPool("records", settings, address="nowhere"))
    assert output(tmp_path / "alone") == alone


@pytest.mark.parametrize("number", range(3))
def test_lost_actors_cost_nothing_and_are_replaced(tmp_path, settings, ray, alone, number):
    found = ray(dies=lambda actor, call: actor < 6 and call == 2 + (actor + number) % 4)
    run(tmp_path / "records", RayPool("records", settings))
    assert output(tmp_path / "records") == alone
    assert len(found.actors) >= 9


def test_a_cluster_that_grows_is_used(tmp_path, settings, ray, alone):
    found = ray(cpus=1)

    def grow(actor, call):
        found.cpus = 4
        return False

    found.dies = grow
    run(tmp_path / "records", RayPool("records", settings))
    assert output(tmp_path / "records") == alone and len(found.actors) == 4


def test_a_number_of_workers_may_be_set(tmp_path, settings, ray, alone):
    found = ray(cpus=0)
    run(tmp_path / "records", RayPool("records", settings, most=2))
    assert output(tmp_path / "records") == alone and len(found.actors) == 2


def test_a_unit_that_fails_is_named_and_so_is_one_that_takes_its_actors_along(
    tmp_path, settings, ray, monkeypatch
):
    monkeypatch.setenv("BAD_UNIT", "unit-7")
    ray()
    with pytest.raises(ValueError, match="1 of 40 units are missing"):
        run(tmp_path / "records", RayPool("records", settings))
    assert read_json(tmp_path / "records" / "failed.json") == {"unit-7": "no answer"}
    monkeypatch.delenv("BAD_UNIT")
    ray(dies=lambda actor, call: call > 1)  # the first call opens the stage
    with pytest.raises(ValueError, match="unit-7: 4 workers were lost over it"):
        run(tmp_path / "records", RayPool("records", settings))
    with pytest.raises(ValueError, match="lost one after the other"):
        run(tmp_path / "others", RayPool("records", settings))


def test_what_an_actor_raises_reaches_the_user(tmp_path, settings, ray, monkeypatch):
    ray()
    monkeypatch.setattr(ray_pool.Actor, "do", lambda *_: (_ for _ in ()).throw(ValueError("boo")))
    with pytest.raises(ValueError, match="boo"):
        run(tmp_path / "records", RayPool("records", settings))
    monkeypatch.undo()


def test_a_cluster_without_room_or_an_address_of_none_is_named(tmp_path, settings, ray):
    ray()
    with pytest.raises(ValueError, match="has 3 CPUs and 0 GPUs, and a worker takes 1 and 1"):
        run(tmp_path / "records", RayPool("records", settings, gpus=1.0))
    with pytest.raises(ValueError, match="no Ray cluster at nowhere"):
        run(tmp_path / "records", RayPool("records", settings, address="nowhere"))


def test_without_ray_it_says_what_to_install(tmp_path, settings, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[ray\]'"):
        run(tmp_path / "records", RayPool("records", settings))


def test_the_config_says_what_a_worker_takes(tmp_path):
    config = tiny_config(tmp_path, "none", generation={"executor": "ray", "ray": {"workers": 2}})
    pool = workers.alone(config, "answers").pool
    assert (pool.most, pool.cpus, pool.gpus, pool.at_once) == (2, 1.0, 0.0, 1), "on CPUs"
    on_gpu = replace(config, model=replace(config.model, device="auto"))
    assert workers.alone(on_gpu, "answers").pool.gpus == 1.0
    assert workers.alone(replace(config, generation=type(config.generation)()), "x").pool is None
    with pytest.raises(ValueError, match="as one process, without a launcher"):
        workers.of_first(config, "answers", Leader(tmp_path, 2), 2, 2)


# --- A real cluster ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_worker_and_then_a_machine_are_lost(tmp_path):
    """Two nodes on this machine: same records as one process alone, and none twice."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    asks = {
        "questions": {"per_sentence": 2, "per_entity": 0},
        "corpus": {"documents": str(DATA), "max_passage_tokens": 48},
        "answers": {"sampling": {"max_new_tokens": 16}, "attempts": 1, "checks": 0},
    }
    model = tiny_model(tmp_path / "model")
    alone = tiny_config(tmp_path / "alone", model, **asks)
    shared = tiny_config(tmp_path / "shared", model, **asks)
    api.run_stages(alone, ["passages", "questions", "answers"])
    api.run_stages(shared, ["passages"])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    other = cluster.add_node(num_cpus=1)
    knobs = {"executor": "ray", "ray": {"address": cluster.address}}
    config = tiny_config(tmp_path / "shared", model, generation=knobs, **asks)
    try:
        for name, lose in (("questions", kill_worker), ("answers", cluster.remove_node)):
            began = threading.Thread(target=api.run_stages, args=(config, [name]))
            began.start()
            journal = config.folder / name / "journal.jsonl"
            until(lambda path=journal: path.exists() and path.read_bytes().count(b"\n") > 2)
            lose() if name == "questions" else lose(other)
            began.join(300)
            assert not began.is_alive()
            assert output(alone.folder / name) == output(config.folder / name), name
    finally:
        cluster.shutdown()


def until(what, seconds=120):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def kill_worker():
    """Kill a process of Ray that works on units."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"ray::Actor" in path.read_bytes():
                os.kill(int(path.parent.name), signal.SIGKILL)
                return
        except OSError:  # it has ended
            continue
    pytest.fail("no worker is at work")
