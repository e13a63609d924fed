"""Runs on a real Ray cluster: two nodes, processes on the loopback address that share nothing but the machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clbench.data.datasets import fetch
from clbench.data.npy_files import ARRAYS

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
sys.path.append(str(ROOT))  # benchmarks is a package of the checkout that is not installed

pytest.importorskip("ray")
from benchmarks.scale.local_cluster import LOOPBACK, LocalCluster, local_cluster  # noqa: E402
from clbench.executors import ray_cluster  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.waits]

SLOW = '''"""Naive fine-tuning that takes its time."""
import os, time
import clbench

class Slow(clbench.Strategy):
    def before_experience(self, model, experience):
        time.sleep(0.4)

    def loss(self, batch):
        return batch.cross_entropy("seen")
'''
OWN_NETWORK = '''"""One hidden layer."""
from torch import nn

def mine(shape):
    height, width, channels = shape
    return nn.Sequential(nn.Flatten(), nn.Linear(height * width * channels, 20), nn.ReLU(), nn.Linear(20, 10))
'''

OWN_IMAGES = '''"""Own images."""
import clbench

class OwnImages(clbench.Scenario):
    dataset = "mine"
    split = "5"
    recipes = {"quick": clbench.Recipe(network="mlp", epochs=1)}
'''


@pytest.fixture(scope="module")
def forked() -> Iterator[dict[str, str]]:
    """Variables of a node that, on Linux, make its worker processes start without importing torch; see on_nodes/."""
    if not sys.platform.startswith("linux"):
        yield {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        return
    with tempfile.TemporaryDirectory() as place:  # whose path is short enough for a socket
        address = f"{place}/socket"
        with subprocess.Popen([sys.executable, "-m", "on_nodes.forking", address], cwd=TESTS) as forking:
            path = filter(None, [str(TESTS / "on_nodes"), os.environ.get("PYTHONPATH")])
            yield {"PYTHONPATH": os.pathsep.join(path), "CLBENCH_TESTS_FORK": address}
            forking.kill()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, forked: dict[str, str]) -> Iterator[LocalCluster]:
    """Two nodes of one core each, with digits in data folders of their own."""
    place = tmp_path_factory.mktemp("cluster")
    with local_cluster(place) as cluster:
        for number in range(2):
            fetch("digits", place / f"data{number}")
            cluster.add(data=place / f"data{number}", variables=forked)
        yield cluster


class Command:
    """A command in a folder of its own, with plug-ins that nobody else has."""

    def __init__(self, place: Path, cluster: LocalCluster) -> None:
        self.place, self.cluster = place, cluster
        for kind, name, text in (("strategies", "slow", SLOW), ("networks", "mine", OWN_NETWORK)):
            (place / kind).mkdir(parents=True, exist_ok=True)
            (place / kind / f"{name}.py").write_text(text)
        fetch("digits", place / "data")

    def start(self, *words: str, on: str | None = None, **variables: str) -> subprocess.Popen[str]:
        """Start `clbench run` on the cluster unless stated otherwise; one epoch per experience unless it is a study."""
        where = ["--on", f"ray:{self.cluster.address}"] if on is None else on.split()
        epochs = [] if words[0].endswith(".toml") else ["--epochs", "1"]
        command = [sys.executable, "-m", "clbench", "run", *words, *epochs, "--device", "cpu", *where]
        environment = {**os.environ, **LOOPBACK, "CLBENCH_DATA": str(self.place / "data"), **variables}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.place, env=environment, **pipes)

    def __call__(self, *words: str, on: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """Start it, and wait for its end."""
        process = self.start(*words, on=on, **variables)
        out, err = process.communicate(timeout=240)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def found(folder: Path, pattern: str) -> Path:
    """Return a file that appears in a folder."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if paths := sorted(folder.glob(pattern)):
            return paths[0]
        time.sleep(0.02)
    raise AssertionError(f"no {pattern} in {folder}")


def published(results: Path) -> dict[str, bytes]:
    """What does not depend on where and when runs were executed: files by path."""
    apart = ("environment.json", "costs.json", "MANIFEST.json")
    files = (path for path in results.rglob("*") if path.is_file() and path.name not in apart)
    return {str(path.relative_to(results)): path.read_bytes() for path in files if ".work" not in path.parts}


STUDY = """
strategy = ["slow", "lwf"]
scenario = "splitdigits"
network = "mine"
keep_networks = "last"
epochs = 1
device = "cpu"

[[grid]]
seeds = 2

[[grid]]
strategy = "lwf"
seeds = [2]
split = 2
"""
RUNS = 5
SLOW_RUNS = ["-s", "slow", "-S", "splitdigits", "--seeds", "3", "--network", "mine", "--keep-networks", "last"]
"""Those of the study that take long enough to be stopped within."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, cluster: LocalCluster) -> Command:
    """The study as executed without a cluster, and a command in its folder."""
    command = Command(tmp_path_factory.mktemp("local"), cluster)
    (command.place / "study.toml").write_text(STUDY)
    assert command("study.toml", on="--jobs 2").returncode == 0
    return command


@pytest.fixture(scope="module")
def slow_runs(study: Command) -> dict[str, bytes]:
    """What is published of the slow runs alone, executed without a cluster."""
    assert study(*SLOW_RUNS, "--out", "slow", on="--jobs 2").returncode == 0
    return published(study.place / "slow")


def test_a_study_on_two_nodes_with_plug_ins_that_only_the_driver_has_gives_the_runs_and_the_pack_of_jobs_2(
    study: Command,
) -> None:
    done = study("study.toml", "--out", "on-ray", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)  # nothing else is on standard output
    local = published(study.place / "results")
    assert published(study.place / "on-ray") == local
    assert sum(name.endswith("network.safetensors") for name in local) == RUNS
    made = [json.loads(path.read_text()) for path in study.place.glob("on-ray/**/environment.json")]
    assert {each["executor"] for each in made} == {"ray"}
    assert list((study.place / "on-ray" / ".work").iterdir()) == []
    assert study("study.toml", "--out", "on-ray").stderr.count("already done, skipped") == RUNS
    there, here = (_packed(study.place, results) for results in ("on-ray", "results"))
    assert list(there) == list(here) and "study.toml" in there
    apart = ("environment.json", "costs.json", "MANIFEST.json", "pack.json")
    differing = {member for member in here if here[member] != there[member]}
    assert {member.rpartition("/")[2] for member in differing} <= set(apart)
    listed = [{m: entry for m, entry in _entries(each).items() if not m.endswith(apart)} for each in (there, here)]
    assert listed[0] == listed[1] and len(listed[0]) > 3 * RUNS


def _packed(place: Path, results: str) -> dict[str, bytes]:
    """What a pack of the results holds, by name."""
    pack = [sys.executable, "-m", "clbench", "pack", results, f"{results}.zip"]
    subprocess.run(pack, cwd=place, check=True, capture_output=True, timeout=120)
    with zipfile.ZipFile(place / f"{results}.zip") as archive:
        return {member: archive.read(member) for member in archive.namelist()}


def _entries(pack: dict[str, bytes]) -> dict[str, Any]:
    """The files that a pack lists, by name."""
    entries: dict[str, Any] = json.loads(pack["pack.json"])["files"]
    return entries


def test_a_run_whose_node_is_killed_goes_on_elsewhere_from_its_last_experience_with_the_same_bytes(
    tmp_path: Path, cluster: LocalCluster, forked: dict[str, str], slow_runs: dict[str, bytes]
) -> None:
    lost = cluster.add(data=tmp_path / "data", variables=forked)
    command = Command(tmp_path, cluster)
    process = command.start(*SLOW_RUNS)
    there = found(lost.folder, "clbench-*/*/results/.work/*/checkpoint")
    found(tmp_path, f"results/.work/{there.parent.name}/checkpoint")
    cluster.kill(lost)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "its node was lost, it continues on" in err
    assert published(tmp_path / "results") == slow_runs
    resumed = [json.loads(path.read_text())["resumed_after_experiences"] for path in tmp_path.rglob("environment.json")]
    assert any(after > 0 for after in resumed)


def test_a_driver_that_is_stopped_and_then_killed_loses_nothing_and_goes_on_when_it_is_started_again(
    tmp_path: Path, cluster: LocalCluster, slow_runs: dict[str, bytes]
) -> None:
    command = Command(tmp_path, cluster)
    process = command.start(*SLOW_RUNS)
    found(tmp_path, "results/.work/*/predictions-0")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.rstrip().rpartition("\n")[2]) == (
        130,
        "Stopped. Finished work is kept; rerun the same command to resume.",
    )
    process = command.start(*SLOW_RUNS)
    found(tmp_path, "results/.work/*/predictions-2")
    process.kill()
    process.communicate(timeout=60)
    done = command(*SLOW_RUNS)
    assert done.returncode == 0, done.stderr
    assert "resuming after experience" in done.stderr
    assert published(tmp_path / "results") == slow_runs


def test_a_strategy_that_is_edited_meanwhile_is_kept_as_it_was_when_it_was_sent(
    tmp_path: Path, cluster: LocalCluster, slow_runs: dict[str, bytes]
) -> None:
    command = Command(tmp_path, cluster)
    process = command.start(*SLOW_RUNS)
    found(tmp_path, "results/.work/*/predictions-0")
    (tmp_path / "strategies" / "slow.py").write_text(f"{SLOW}# edited\n")
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert published(tmp_path / "results") == slow_runs  # sources among them


def test_a_strategy_that_fails_is_kept_apart_with_its_traceback_and_one_that_crashes_is_reported(
    tmp_path: Path, cluster: LocalCluster
) -> None:
    command = Command(tmp_path, cluster)
    for name, line in (("broken", "1 / 0"), ("crashing", "os.kill(os.getpid(), 9)")):
        text = SLOW.replace("time.sleep(0.4)", line)
        (tmp_path / "strategies" / f"{name}.py").write_text(text)
    done = command("-s", "naive,broken,crashing", "-S", "splitdigits")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "its worker process ended with signal SIGKILL" in done.stderr
    assert len(list(tmp_path.glob("results/.failed/splitdigits/broken/*/traceback.txt"))) == 1
    assert len(list(tmp_path.glob("results/splitdigits/naive/*/MANIFEST.json"))) == 1


@pytest.mark.parametrize(("token", "mode"), [("0123456789abcdef0123456789abcdef", "token"), (None, "None")])
def test_a_token_that_a_cluster_may_ask_for_is_found(token: str | None, mode: str, tmp_path: Path) -> None:
    pytest.importorskip("ray._private.authentication.authentication_token_setup")
    if token:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text(token)
    program = "import os; from clbench.executors import ray_cluster; print(ray_cluster._token_enabled(), end=' ')"
    program += "; print(os.environ.get('RAY_AUTH_MODE'))"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    environment = {**inherited, "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.stdout, done.stderr) == (f"{token is not None} {mode}\n", "")


def test_a_head_without_cores_is_not_asked_for_the_data_and_neither_is_a_lost_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes = [("head", True, {"memory": 1e9}), ("lost", False, {"CPU": 4.0}), ("one", True, {"CPU": 4.0})]
    alive = [{"NodeID": name, "Alive": alive, "Resources": resources} for name, alive, resources in nodes]
    monkeypatch.setattr(ray_cluster.ray, "nodes", lambda: alive)
    assert ray_cluster.working_nodes() == ["one"]


def test_a_node_without_the_data_is_named_with_the_command_that_brings_it(
    tmp_path: Path, cluster: LocalCluster
) -> None:
    command = Command(tmp_path, cluster)
    photos = tmp_path / "photos.npz"
    arrays = {name: tmp_path / "data" / "arrays" / "digits" / f"{name}.npy" for name in ARRAYS}
    np.savez(photos, **{name: np.load(path) for name, path in arrays.items()})
    imported = subprocess.run(
        [sys.executable, "-m", "clbench", "data", "import", "mine", str(photos), "--data", str(tmp_path / "data")],
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert imported.returncode == 0, imported.stderr
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "ownimages.py").write_text(OWN_IMAGES)
    done = command("-s", "naive", "-S", "ownimages")
    assert done.returncode == 3, done.stderr
    assert "there is no dataset 'mine'" in done.stderr
    assert "On that machine: clbench data import mine PATH" in done.stderr


def test_a_node_with_another_torch_is_refused_unless_mixed_versions_are_allowed_and_recorded(
    tmp_path: Path, cluster: LocalCluster, forked: dict[str, str]
) -> None:
    other = tmp_path / "other" / "torchvision-0.0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.0.1\n")
    path = os.pathsep.join([str(tmp_path / "other"), forked["PYTHONPATH"]])
    node = cluster.add(data=tmp_path / "data", variables=forked | {"PYTHONPATH": path})
    command = Command(tmp_path, cluster)
    try:
        refused = command("-s", "naive", "-S", "splitdigits")
        assert refused.returncode == 4
        assert "torchvision 0.0.1 (not" in refused.stderr
        assert "--allow-mixed" in refused.stderr
        done = command("-s", "naive", "-S", "splitdigits", "--seeds", "3", "--allow-mixed")
        assert done.returncode == 0, done.stderr
        assert "accepted by --allow-mixed" in done.stderr
        made = [json.loads(path.read_text()) for path in tmp_path.rglob("environment.json")]
        assert "0.0.1" in {each["packages"]["torchvision"] for each in made}
    finally:
        cluster.kill(node)


STARTED = """
import psutil, ray
from clbench.executors import ray_cluster

join = ray.init

def init(address, **options):
    if address == "auto":  # the tests' own cluster may run on this machine
        raise ConnectionError
    return join(address=address, **options)

ray.init = init
assert ray_cluster.join_or_start(None)
ray.get(ray.remote(lambda: 1).remote())  # starts a process of every kind
own = psutil.Process()
for process in (own, *own.children(recursive=True)):
    for socket in process.net_connections(kind="inet"):
        if socket.status == psutil.CONN_LISTEN:
            print(socket.laddr.ip)
"""


def test_a_cluster_that_the_command_starts_listens_on_the_loopback_address_alone() -> None:
    """Anyone who reaches a port of Ray's can run code."""
    inherited = {name: value for name, value in os.environ.items() if name not in LOOPBACK}
    done = subprocess.run(
        [sys.executable, "-c", STARTED], env=inherited, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) <= {"127.0.0.1", "::ffff:127.0.0.1"} and done.stdout


def test_what_cannot_be_joined_is_said_with_the_command_that_starts_it(tmp_path: Path, cluster: LocalCluster) -> None:
    command = Command(tmp_path, cluster)
    done = command(
        "-s", "naive", "-S", "splitdigits", on="--on ray:127.0.0.1:1", RAY_gcs_rpc_server_connect_timeout_s="1"
    )
    assert done.returncode == 4
    assert "no Ray cluster can be joined at 127.0.0.1:1" in done.stderr


def test_runs_for_which_no_node_is_large_enough_wait_and_say_so(tmp_path: Path, cluster: LocalCluster) -> None:
    command = Command(tmp_path, cluster)
    process = command.start("-s", "naive", "-S", "splitdigits", "--threads", "7")
    assert process.stderr is not None
    for line in process.stderr:
        if "no node has 7 cores" in line:
            break
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:  # an impatient user, while Ray ends, too
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
