"""Two nodes on one machine: network namespaces, sshd, pdsh and DeepSpeed's own launcher.

Needs root on Linux; `make test-two-nodes`, with `-s` to see the bytes that crossed.
"""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress

import pytest
import torch
from launching import (
    LAUNCH,
    SAVED,
    Job,
    adapter,
    assert_close,
    assert_root_is_on_no_path,
    environment,
    launch,
    missing,
    script,
    train_alone,
    written_run,
)

TOOLS = ("ip", "unshare", "ssh", "ssh-keygen", "sshd", "pdsh", "deepspeed")
NODES = {"node-a": "10.213.77.1", "node-b": "10.213.77.2"}
WIRE = "wire"  # the interface's name, in both namespaces
PORT = 2222


def why_not() -> str:
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux, for network namespaces"
    if torch.cuda.is_available():
        return "needs ranks that see no GPU: DeepSpeed's launcher sets CUDA_VISIBLE_DEVICES itself"
    absent = missing(*TOOLS)
    packages = "apt-get install openssh-server pdsh iproute2"
    return f"needs {', '.join(absent)}: {packages}" if absent else ""


pytestmark = pytest.mark.two_nodes


def do(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr}"
    return done.stdout


class Cluster:
    """Two namespaces joined by a cable, each with an address, a hostname and an sshd."""

    def __init__(self, folder):
        self.folder = folder
        self.spaces = {node: f"pdtrain-{os.getpid()}-{node}" for node in NODES}
        self.daemons = []

    def __enter__(self):
        try:
            self._connect()
            self._start_sshd()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for daemon in self.daemons:
            daemon.terminate()
            daemon.wait(10)
        for space in self.spaces.values():
            listed = subprocess.run(["ip", "netns", "pids", space], capture_output=True, text=True)
            for number in listed.stdout.split():  # none, unless a test has failed
                with suppress(ProcessLookupError):
                    os.kill(int(number), signal.SIGKILL)
            subprocess.run(["ip", "netns", "delete", space], capture_output=True)

    def _connect(self):
        for space in self.spaces.values():
            do("ip", "netns", "add", space)
        left, right = self.spaces.values()
        ends = ("type", "veth", "peer", "name", WIRE, "netns", right)
        do("ip", "link", "add", WIRE, "netns", left, *ends)
        for node, address in NODES.items():
            inside = ("ip", "-netns", self.spaces[node])
            do(*inside, "address", "add", f"{address}/24", "dev", WIRE)
            do(*inside, "link", "set", WIRE, "up")
            do(*inside, "link", "set", "lo", "up")

    def _start_sshd(self):
        ssh = self.folder / "ssh"
        ssh.mkdir(mode=0o700)
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # sshd's own, before it drops rights
        do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ssh / "key")
        shutil.copy(ssh / "key.pub", ssh / "authorized")
        known, hosts = [], []
        for node, address in NODES.items():
            do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ssh / f"{node}-key")
            settings = {
                "Port": PORT,
                "ListenAddress": address,
                "HostKey": ssh / f"{node}-key",
                "AuthorizedKeysFile": ssh / "authorized",
                "PidFile": "none",
                "PasswordAuthentication": "no",
                "KbdInteractiveAuthentication": "no",
                "PermitRootLogin": "prohibit-password",
                "StrictModes": "no",  # the key lies in a temporary folder
                "UsePAM": "no",
            }
            lines = "".join(f"{key} {value}\n" for key, value in settings.items())
            (ssh / f"{node}.conf").write_text(lines)
            public = (ssh / f"{node}-key.pub").read_text()
            known.append(f"[{address}]:{PORT} {public}")
            hosts.append(f"Host {node}\n  HostName {address}\n")
            body = 'hostname "$0"; exec "$1" -D -e -f "$2"'  # a hostname of its own: unshare
            sshd = shutil.which("sshd", path="/usr/sbin")
            shell = ["unshare", "--uts", "bash", "-c", body, node, sshd, str(ssh / f"{node}.conf")]
            with (ssh / f"{node}.log").open("w") as log:
                self.daemons.append(
                    subprocess.Popen(self.inside(node, *shell), stdout=log, stderr=log)
                )
        (ssh / "known").write_text("".join(known))
        everywhere = {
            "Port": PORT,
            "User": "root",
            "IdentityFile": ssh / "key",
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": ssh / "known",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "ConnectionAttempts": 20,  # one a second: sshd may still be starting
            "ConnectTimeout": 20,
        }
        lines = "".join(f"  {key} {value}\n" for key, value in everywhere.items())
        (ssh / "config").write_text("".join(hosts) + "Host *\n" + lines)

    def inside(self, node, *command):
        return ["ip", "netns", "exec", self.spaces[node], *map(str, command)]

    def environment(self):
        """DeepSpeed and pdsh call `ssh`, and find one that knows the keys of these nodes."""
        env = environment(self.folder, MASTER_ADDR=NODES["node-a"])
        config = self.folder / "ssh" / "config"
        script(self.folder / "bin" / "ssh", f'exec {shutil.which("ssh")} -F {config} "$@"')
        return env

    def crossed_bytes(self):
        """Sent by the first node, and received by it, since its cable was laid."""
        counters = [f"/sys/class/net/{WIRE}/statistics/{way}_bytes" for way in ("tx", "rx")]
        return [int(n) for n in do(*self.inside("node-a", "cat", *counters)).split()]


@pytest.fixture
def cluster(tmp_path):
    if reason := why_not():
        pytest.skip(reason)
    with Cluster(tmp_path) as made:
        yield made


def test_train_stop_and_resume_over_two_nodes(cluster, tmp_path, record_property):
    alone = written_run(tmp_path / "alone", train={"epochs": 16})
    # nothing persists: the base crosses the cable, as a large one would
    gathering = {"zero_optimization": {"stage3_param_persistence_threshold": 0}}
    config = written_run(tmp_path / "nodes", train={"epochs": 16}, deepspeed=gathering)
    run, log = config.parent / "run", tmp_path / "log"
    hostfile = tmp_path / "hostfile"
    hostfile.write_text("".join(f"{node} slots=1\n" for node in NODES))
    exported = ("DS_ACCELERATOR", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "HF_HUB_OFFLINE")
    env = cluster.environment()
    lines = [f"{name}={env[name]}\n" for name in exported] + [f"GLOO_SOCKET_IFNAME={WIRE}\n"]
    (run / ".deepspeed_env").write_text("".join(lines))

    def command(stage):
        return cluster.inside(
            "node-a", "bash", LAUNCH / "hostfile.sh", hostfile, stage, config, run
        )

    told = launch(command("doctor"), env, log)
    assert "2 ranks by torchrun or deepspeed: 1 on node-a, 1 on node-b" in told
    assert "all-reduce of 16 MiB over gloo" in told and "clocks are within" in told
    assert "passes for Hugging Face's package" not in told
    assert_root_is_on_no_path(tmp_path, 2)
    bandwidth = next(line for line in told.splitlines() if "all-reduce" in line)

    before = cluster.crossed_bytes()
    first = Job(command("train"), env, log)
    first.wait_for((run / "checkpoints" / "latest").exists)
    first.process.send_signal(signal.SIGTERM)
    assert first.end() == SAVED, first.said()
    assert "saved after step" in first.said() and not (run / "adapter").exists()
    stopped = cluster.crossed_bytes()

    assert "resuming after step" in launch(command("train"), env, log)
    done = cluster.crossed_bytes()
    assert_root_is_on_no_path(tmp_path, 2)
    apart = assert_close(adapter(run), train_alone(alone))

    steps, trained = 48, sum(weight.nbytes for weight in adapter(run).values())
    sent, received = done[0] - before[0], done[1] - before[1]
    report = (
        f"{steps} steps on two nodes: {sent / 1e6:.2f} MB sent by node-a and {received / 1e6:.2f} "
        f"MB received ({(stopped[0] - before[0]) / 1e6:.2f} and "
        f"{(stopped[1] - before[1]) / 1e6:.2f} MB of them before the stop); the adapter has "
        f"{trained / 1e6:.3f} MB, and is {apart:.1e} from that of one process; {bandwidth}"
    )
    print(f"\n{report}")
    record_property("crossed", report)
    # each node has half of each gradient to send in every step, at the least
    assert min(sent, received) > steps * trained / 2
