"""What several test files need, and how the tests are divided among processes."""

import contextlib
import os

# Before torch is imported. The tests' networks are so small that threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Where several threads are asked for all the same, those that wait leave the cores to other tests.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
with contextlib.suppress(AttributeError, OSError):  # only on Linux, and where it is allowed
    # What computes is not interrupted whenever another process wakes: the tests take some 5 % less processor time.
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))

import functools
import gc
import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import warm_start
from after_torch import AfterTorch
from filelock import FileLock
from stored_runs import RESULTS
from xdist.remote import Producer
from xdist.scheduler import LoadGroupScheduling
from xdist.workermanage import WorkerController

from clbench.data.datasets import fetch
from clbench.reporting import rendering
from clbench.reporting.publication import Report, Selection, write_report
from clbench.system.machine import available_cores, available_memory

MOST_WORKERS = 8
"""Each imports torch, which takes seconds; the longest group of tests bounds what more of them bring."""

WAITS = "waits"
"""The mark of slow tests that mostly wait."""

WORKER_MEMORY = 2**30
"""What a worker and the processes that its tests start may need, in bytes."""

warm_start.install()

IN_EVERY_FORMAT = rendering._files


def _empty(panels: Sequence[rendering.Panel], title: str) -> dict[str, bytes]:
    return {"svg": b"", "png": b"", "pdf": b""}


# They take most of the time of a report. They are empty but where the fixture `every_format` is asked for.
rendering._files = _empty

Once = Callable[[str, Callable[[Path], None]], Path]


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A worker per core, as far as memory goes; none for single files or tests, which are done before workers start.

    With slow tests there is one more, which does what mostly waits; see `Scheduling`.
    """
    chosen = [argument.partition("::")[0] for argument in config.args]
    if all(argument.endswith(".py") for argument in chosen):
        return 0
    workers = available_cores() + ("not slow" not in config.option.markexpr)
    return max(1, min(workers, MOST_WORKERS, available_memory() // WORKER_MEMORY))


class Scheduling(LoadGroupScheduling):
    """A worker beyond those that keep the cores busy does the group of tests that mostly wait, and nothing else.

    Two workers that compute take 10 % less processor time for the same tests on two cores than three.
    """

    def _reschedule(self, node: WorkerController) -> None:
        """Give a worker its next tests, or end it."""
        if WAITS in self.assigned_work[node] and len(self.nodes) > available_cores():
            if not node.shutting_down:
                node.shutdown()  # when it has done what it was given
            return
        super()._reschedule(node)


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadGroupScheduling | None:
    """Distribute groups of tests as `Scheduling` says."""
    return Scheduling(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share what is made once, by their module or by all, are slow; a module's are done by one worker.

    So are those that share a process, and those that mostly wait, which come first.
    """
    items.sort(key=lambda item: item.get_closest_marker(WAITS) is None)
    for item in items:
        assert isinstance(item, pytest.Function)
        definitions = item._fixtureinfo.name2fixturedefs.values()
        if item.get_closest_marker(WAITS):
            item.add_marker(pytest.mark.xdist_group(WAITS))
        elif any(definition.scope == "module" for stack in definitions for definition in stack):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
            item.add_marker(pytest.mark.slow)
        elif after_torch.__name__ in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group(after_torch.__name__))
            item.add_marker(pytest.mark.slow)
        elif once.__name__ in item.fixturenames:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """What is imported and collected stays until the end; garbage is looked for in what the tests make, and rarely."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which the bundled digits are ready."""
    folder = tmp_path_factory.mktemp("data")
    fetch("digits", folder)
    return folder


@pytest.fixture(scope="session")
def after_torch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AfterTorch]:
    """`after_torch(program)` runs a program in a process of its own where torch is imported, and returns its output."""
    programs = AfterTorch(tmp_path_factory.mktemp("programs"))
    yield programs
    programs.close()


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """`once(name, make)` is a folder that `make` filled once for all workers; tests only read it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def made(name: str, make: Callable[[Path], None]) -> Path:
        folder, done = shared / "once" / name, shared / "once" / f"{name}.done"
        folder.parent.mkdir(exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not done.exists():
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return made


@pytest.fixture
def every_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports have their figures as files, too."""
    monkeypatch.setattr(rendering, "_files", IN_EVERY_FORMAT)


@pytest.fixture(scope="session")
def report_of(once: Once) -> Callable[[str], Report]:
    """The report of some results of stored_runs.RESULTS by name, made once; the results lie next to it.

    The usual one and that of hostile names have their figures as files, too.
    """

    def make(name: str, folder: Path) -> None:
        RESULTS[name](folder / "results")
        with pytest.MonkeyPatch.context() as patch:
            if name in ("usual", "hostile"):
                patch.setattr(rendering, "_files", IN_EVERY_FORMAT)
            report = write_report([folder / "results"], folder / "report", Selection())
        (folder / "report.pickle").write_bytes(pickle.dumps(report))

    @functools.cache
    def made(name: str) -> Report:
        folder = once(f"report-of-{name}", functools.partial(make, name))
        report: Report = pickle.loads((folder / "report.pickle").read_bytes())
        return report

    return made
