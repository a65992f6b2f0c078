"""Which rank a process is, from the variables of every launcher, and from those that disagree."""

import socket

import pytest

from pdtrain.distributed.world import RanksLost, World, find_world, publish, raise_if_told
from pdtrain.progress import Stopped


def torchrun(rank, num_ranks, local_rank, here):
    return {
        "RANK": rank,
        "WORLD_SIZE": num_ranks,
        "LOCAL_RANK": local_rank,
        "LOCAL_WORLD_SIZE": here,
        "GROUP_RANK": rank // here,
        "TORCHELASTIC_RUN_ID": "none",
        "MASTER_ADDR": "node-0",
        "MASTER_PORT": 29400,
    }


def deepspeed(rank, num_ranks, local_rank, here):
    return {
        "RANK": rank,
        "WORLD_SIZE": num_ranks,
        "LOCAL_RANK": local_rank,
        "LOCAL_SIZE": here,
        "CROSS_RANK": rank // here,
        "CROSS_SIZE": num_ranks // here,
        "MASTER_ADDR": "node-0",
        "MASTER_PORT": 29500,
    }


def srun(rank, num_ranks, local_rank, here):
    nodes = num_ranks // here
    return {
        "SLURM_PROCID": rank,
        "SLURM_LOCALID": local_rank,
        "SLURM_NTASKS": num_ranks,
        "SLURM_STEP_NUM_TASKS": num_ranks,
        "SLURM_STEP_TASKS_PER_NODE": f"{here}(x{nodes})" if nodes > 1 else here,
    }


def mpirun(rank, num_ranks, local_rank, here):
    return {
        "OMPI_COMM_WORLD_RANK": rank,
        "OMPI_COMM_WORLD_SIZE": num_ranks,
        "OMPI_COMM_WORLD_LOCAL_RANK": local_rank,
        "OMPI_COMM_WORLD_LOCAL_SIZE": here,
    }


def variables(*parts, **more):
    return {name: str(value) for part in (*parts, more) for name, value in part.items()}


LAUNCHERS = [torchrun, deepspeed, srun, mpirun]


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize(
    "place",
    [
        pytest.param((0, 1, 0, 1), id="one_rank"),
        pytest.param((1, 2, 1, 2), id="one_machine"),
        pytest.param((5, 8, 1, 4), id="two_machines"),
        pytest.param((2, 3, 0, 1), id="one_rank_each"),
    ],
)
def test_every_launcher_says_the_same(launcher, place):
    world = find_world(variables(launcher(*place)))
    assert (world.rank, world.num_ranks, world.local_rank, world.ranks_per_node) == place
    assert world.num_nodes == place[1] // place[3]
    assert world.is_first == (place[0] == 0)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"WORLD_SIZE": "1", "RANK": "0"}, id="a_job_of_one_pod"),
        pytest.param({"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "8"}, id="sbatch"),
        pytest.param({"MASTER_ADDR": "node-0", "LOCAL_RANK": "0"}, id="left_over"),
    ],
)
def test_without_a_launcher_it_is_one_process_alone(given):
    assert find_world(given) == World()


def test_a_pod_of_an_indexed_job_is_a_rank_where_the_number_of_pods_is_said():
    pod = {"JOB_COMPLETION_INDEX": "2", "WORLD_SIZE": "4"}
    world = find_world(pod)
    assert (world.rank, world.num_ranks, world.local_rank, world.ranks_per_node) == (2, 4, 0, 1)
    assert find_world({"JOB_COMPLETION_INDEX": "2"}) == World()
    inner = find_world(variables(torchrun(5, 8, 1, 4), JOB_COMPLETION_INDEX="1"))
    assert (inner.rank, inner.num_ranks) == (5, 8), "torchrun in every pod numbers the ranks"
    with pytest.raises(ValueError, match="an indexed job says rank 4 of 4"):
        find_world(pod | {"JOB_COMPLETION_INDEX": "4"})


@pytest.mark.parametrize("outer", [srun, mpirun])
@pytest.mark.parametrize("inner", [torchrun, deepspeed])
def test_a_launcher_below_another_decides(inner, outer):
    """One task a machine, which starts the machine's ranks; its numbers are the machines'."""
    world = find_world(variables(outer(1, 2, 0, 1), inner(6, 8, 2, 4)))
    assert (world.rank, world.num_ranks, world.num_nodes) == (6, 8, 2)


def test_ranks_that_mpirun_started_through_srun_are_those_of_mpirun():
    """Open MPI reaches its nodes by srun, whose variables all ranks of a node inherit."""
    given = variables(srun(1, 2, 0, 1), mpirun(7, 8, 3, 4), MASTER_ADDR="node-0")
    world = find_world(given)
    assert (world.launcher, world.rank, world.ranks_per_node) == ("mpirun", 7, 4)
    publish(world, given)
    assert find_world(given).rank == 7


def test_the_step_counts_for_srun_not_the_jobs_wish():
    given = variables(srun(1, 4, 1, 2), SLURM_NTASKS_PER_NODE=8)
    assert find_world(given).ranks_per_node == 2


def test_the_jobs_wish_serves_where_srun_does_not_say():
    given = variables(srun(5, 8, 1, 4), SLURM_NTASKS_PER_NODE=4)
    del given["SLURM_STEP_TASKS_PER_NODE"]
    assert find_world(given).num_nodes == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param(
            {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "x"},
            "not RANK and LOCAL_RANK",
            id="kubernetes_numbers_of_nodes",
        ),
        pytest.param(variables(torchrun(4, 4, 0, 2)), "cannot be", id="rank_out_of_range"),
        pytest.param(variables(torchrun(1, 2, 1, 1)), "cannot be", id="local_out_of_range"),
        pytest.param(variables(mpirun(0, 3, 0, 2)), "same number on each", id="uneven"),
        pytest.param(
            variables(srun(0, 8, 0, 2), SLURM_STEP_TASKS_PER_NODE="2(x2),4"),
            "same number on every machine",
            id="uneven_but_divisible",
        ),
        pytest.param(variables(srun(1, 4, 0, 2)), "--distribution=block", id="dealt_like_cards"),
        pytest.param(variables(deepspeed(0, 1, 0, 1), RANK="one"), "not a number", id="no_number"),
        pytest.param(
            variables(srun(3, 8, 3, 8), RANK=0, WORLD_SIZE=8, LOCAL_RANK=0),
            "RANK=0, but srun says SLURM_PROCID=3",
            id="exported_once_for_all",
        ),
        pytest.param(
            variables(mpirun(0, 8, 0, 8), RANK=0, WORLD_SIZE=4, LOCAL_RANK=0),
            "WORLD_SIZE=4, but mpirun says",
            id="of_another_job",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        find_world(given)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_what_is_published_is_found_again(launcher):
    given = variables(launcher(5, 8, 1, 4), MASTER_ADDR="node-0")
    world = find_world(given)
    publish(world, given)
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "LOCAL_SIZE", "MASTER_ADDR")
    assert [given[name] for name in names] == ["5", "8", "1", "4", "4", "node-0"]
    again = find_world(given)
    assert (again.rank, again.num_ranks, again.ranks_per_node) == (5, 8, 4)


def test_published_counts_replace_stale_ones():
    """A shell may export LOCAL_SIZE for DeepSpeed; the launcher knows better."""
    given = variables(srun(1, 2, 1, 2), LOCAL_SIZE=1, LOCAL_WORLD_SIZE=1)
    publish(find_world(given), given)
    assert given["LOCAL_SIZE"] == given["LOCAL_WORLD_SIZE"] == "2"


def test_one_machine_is_its_own_address():
    given = variables(mpirun(1, 2, 1, 2))
    publish(find_world(given), given)
    assert given["MASTER_ADDR"] == "127.0.0.1" and given["MASTER_PORT"] == "29500"


def test_the_port_that_is_set_stays():
    given = variables(mpirun(1, 2, 1, 2), MASTER_PORT=1234)
    publish(find_world(given), given)
    assert given["MASTER_PORT"] == "1234"


def test_several_machines_need_an_address():
    given = variables(srun(0, 4, 0, 2))
    with pytest.raises(ValueError, match="4 ranks on 2 machines, but MASTER_ADDR is not set"):
        publish(find_world(given), given)


@pytest.fixture
def address(monkeypatch):
    """Set a free port, and what a test publishes is gone after it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "LOCAL_SIZE"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT", raising=False)
    return port


@pytest.mark.parametrize(
    "reason, error",
    [
        ("rank 0 failed: the run is another config's", RanksLost),
        ("rank 0 failed: stopped by SIGTERM; the same command goes on from there", Stopped),
    ],
)
def test_a_rank_that_is_not_connected_hears_what_was_told(address, reason, error):
    import torch.distributed as dist

    raise_if_told(World(1, 2, 1, 2))  # nobody is there
    held = dist.TCPStore("127.0.0.1", address, 2, True, wait_for_workers=False)
    store = dist.PrefixStore("pdtrain/0", held)
    raise_if_told(World(1, 2, 1, 2))  # the first rank lives
    store.set("failed", reason)
    with pytest.raises(error, match=reason):
        raise_if_told(World(1, 2, 1, 2))
    assert store.check(["heard/1"]), "the first rank need not stay any longer"


def test_a_rank_whose_launcher_gave_no_address_asks_nobody(monkeypatch, address):
    monkeypatch.delenv("MASTER_ADDR")
    raise_if_told(World(1, 2, 0, 1))
