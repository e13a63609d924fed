"""The index of many runs: what is read through it is what the files say, whatever happens to the files and to it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored_runs import publish

from clbench.comparison.grouping import compare
from clbench.comparison.table import rows_for_json
from clbench.diagnostics import doctor
from clbench.results import manifests, run_index, store, stored_runs
from clbench.results.record_model import to_json
from clbench.results.stored_run import Unreadable
from clbench.results.stored_runs import read, read_all

STRATEGIES = ("naive", "lwf", "joint")


@pytest.fixture(autouse=True)
def small_indexes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an index of however few runs, of files that were just written, in the test's own cache."""
    monkeypatch.setattr(run_index, "SMALLEST", 1)
    monkeypatch.setattr(run_index, "SETTLED_AFTER", -60.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "clbench" / "index"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six runs of three strategies, with seeds that change the class order."""
    folder = tmp_path_factory.mktemp("published")
    for seed in range(2):
        for strategy in STRATEGIES:
            order = (3, 1, 0, 2) if seed else (0, 1, 3, 2)
            publish(folder / "results", strategy, seed, old=0.2 + 0.3 * seed, order=order)
    return folder / "results"


@pytest.fixture
def results(published: Path, tmp_path: Path) -> Path:
    """A copy of these runs, which a test may change."""
    return Path(shutil.copytree(published, tmp_path / "results"))


def said(places: list[Path]) -> tuple[Any, ...]:
    """Everything that is reported about the runs in these places."""
    runs, unreadable = read_all(places)
    facts = [
        (run.path, to_json(run.spec), run.spec, [run.counts(s) for s in run.facts.last], run.facts) for run in runs
    ]
    return facts, unreadable, [rows_for_json(each) for each in compare(runs)] if runs else []


def afresh(places: list[Path]) -> tuple[Any, ...]:
    """The same without an index."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_index, "SMALLEST", 10**9)
        return said(places)


def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the runs that are read from their files, from now on."""
    names: list[str] = []
    damage = manifests.damage

    def noted(run: Path) -> str | None:
        names.append(run.name.rpartition("-")[0] + run.parent.name)
        return damage(run)

    monkeypatch.setattr(manifests, "damage", noted)
    return names


def index_of(folder: Path) -> Path:
    """The file of the index of a results folder."""
    return run_index.folder() / f"{hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:32]}.sqlite"


def damaged_quietly(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change a byte of a file as a failing disk does, without a trace in its times."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    before = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    real = os.DirEntry.stat

    class Entry:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self._entry, self.name = entry, entry.name

        def stat(self, follow_symlinks: bool = True) -> Any:
            return before if self._entry.path == str(file) else real(self._entry, follow_symlinks=follow_symlinks)

    class Entries:
        def __init__(self, path: Any) -> None:
            self._entries = os_scandir(path)

        def __enter__(self) -> Iterator[Entry]:
            return map(Entry, self._entries)

        def __exit__(self, *_: object) -> None:
            self._entries.close()

    os_scandir = os.scandir
    from clbench.results import run_files

    monkeypatch.setattr(run_files, "os", SimpleNamespace(**{**vars(os), "scandir": Entries}))


# -- the same numbers -------------------------------------------------------------------------------------------------


def test_runs_are_read_once_and_say_the_same_from_the_index(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = afresh([results])
    names = opened(monkeypatch)
    assert said([results]) == truth and len(names) == 6
    assert said([results]) == truth and len(names) == 6
    assert said([results / "tiny" / "lwf"]) == afresh([results / "tiny" / "lwf"])


def test_records_are_those_of_the_files(results: Path) -> None:
    read_all([results])
    for run in read_all([results])[0]:
        assert run.spec == read(run.path).spec  # type: ignore[union-attr]
        assert to_json(run.result) == json.loads((run.path / "result.json").read_bytes())
        assert to_json(run.costs) == json.loads((run.path / "costs.json").read_bytes())
        assert run.environment.python == "3.11.7"
        for setting, stored in run.result.metrics.items():
            assert {name: run.metric(name, setting) for name in stored} == stored


ACTIONS = ("add", "remove", "rename", "spec", "result", "predictions", "costs", "extra", "manifest", "touch", "swap")


@pytest.mark.slow
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 5)), max_size=5))
def test_whatever_happens_to_the_files_the_index_says_what_they_say(
    published: Path, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    folder = Path(shutil.copytree(published, tmp_path_factory.mktemp("runs") / "results"))
    for number, (action, which) in enumerate(steps):
        assert said([folder]) == afresh([folder])
        runs = sorted(store.published_runs(folder))
        if action == "add":
            publish(folder, STRATEGIES[which % 3], 100 + number)
        elif runs:
            change(action, runs[which % len(runs)], runs[0], number)
    assert said([folder]) == afresh([folder])


def change(action: str, run: Path, other: Path, number: int) -> None:
    """Do something to a run's files that a user, a stranger or a disk may do."""
    if action == "remove":
        shutil.rmtree(run)
    elif action == "rename":
        run.rename(run.with_name(f"moved-{number}"))
    elif action == "extra":
        (run / f"extra-{number}").touch()
    elif action == "touch":
        os.utime(run / "spec.json", (0, number))
    elif action == "swap":
        (run / "result.json").write_bytes((other / "result.json").read_bytes())
    else:
        name = {"predictions": "predictions.npz", "manifest": manifests.MANIFEST}.get(action, f"{action}.json")
        (run / name).write_bytes((run / name).read_bytes()[:-2])


def test_a_damaged_run_is_reported_as_without_an_index_and_a_mended_one_is_read_again(results: Path) -> None:
    said([results])
    run = next(store.published_runs(results))
    whole = (run / "predictions.npz").read_bytes()
    (run / "predictions.npz").write_bytes(whole[:-1])
    _, (fault,) = read_all([results])
    assert fault == Unreadable(run, "predictions.npz does not match MANIFEST.json")
    (run / "predictions.npz").write_bytes(whole)
    assert said([results]) == afresh([results]) and not said([results])[1]


def test_a_change_that_keeps_size_and_time_of_modification_is_seen_by_the_time_of_change(results: Path) -> None:
    said([results])
    file = next(store.published_runs(results)) / "costs.json"
    before = file.stat()
    file.write_bytes(file.read_bytes().replace(b'"seconds": 1.5', b'"seconds": 9.5'))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size and len(read_all([results])[1]) == 1


def test_a_run_that_was_changed_a_moment_ago_is_not_kept(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_index, "SETTLED_AFTER", 2.0)
    said([results])
    assert not index_of(results).exists()


def test_few_runs_are_read_from_their_files(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_index, "SMALLEST", 7)
    said([results])
    assert not index_of(results).exists()


@contextlib.contextmanager
def opened_for_writing(file: Path) -> Iterator[sqlite3.Connection]:
    """An index whose changes are kept and which is closed afterwards; a connection of sqlite3's is not."""
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        yield database


def test_a_run_that_is_gone_is_forgotten(results: Path) -> None:
    said([results])
    shutil.rmtree(results / "tiny" / "joint")
    said([results])
    with opened_for_writing(index_of(results)) as database:
        assert {name.split("/")[1] for (name,) in database.execute("SELECT name FROM runs")} == {"naive", "lwf"}
        assert database.execute("SELECT count(*) FROM texts").fetchone() == (4,)  # a spec and a file's words for each


def test_another_version_of_the_code_judges_for_itself(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said([results])
    monkeypatch.setattr(run_index, "_code", lambda: b"another")
    names = opened(monkeypatch)
    assert said([results]) == afresh([results]) and len(names) == 12


# -- every byte -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_byte_that_changes_without_a_trace_is_found_by_doctor_which_sets_the_index_right(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said([results])
    run = next(store.published_runs(results))
    damaged_quietly(run / "result.json", monkeypatch)
    assert len(read_all([results])[0]) == 6  # trusted, as is said
    monkeypatch.setattr(doctor, "_installation", list)  # takes a process that imports torch and Avalanche
    found = doctor.examine([results], tmp_path / "data")
    findings = [each for each in found if not each.healthy and "result" in each.what]
    assert [each.exit_code for each in findings] == [1, 1]
    assert "result.json does not match MANIFEST.json" in findings[0].what
    assert "the index of" in findings[1].what and "1 of its runs" in findings[1].what
    assert [fault.path for fault in read_all([results])[1]] == [run]


def test_doctor_has_nothing_to_say_of_an_index_that_agrees(results: Path, tmp_path: Path) -> None:
    said([results])
    found = stored_runs.check_every_byte(results)
    assert len(found.runs) == 6 and found.index_was_wrong == [] and found.unreadable == []


# -- what is wrong with the index -------------------------------------------------------------------------------------


def nothing(file: Path) -> None:
    file.write_bytes(b"")


def noise(file: Path) -> None:
    file.write_bytes(b"no database " * 1000)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def bits(file: Path) -> None:
    content = bytearray(file.read_bytes())
    for place in range(5000, len(content), 997):
        content[place] ^= 0xFF
    file.write_bytes(content)


def other_tables(file: Path) -> None:
    file.unlink()
    with opened_for_writing(file) as database:
        database.execute("CREATE TABLE runs (name TEXT, newer TEXT)")
    file.chmod(0o600)


def trigger(file: Path) -> None:
    with opened_for_writing(file) as database:
        database.execute("CREATE TRIGGER t AFTER INSERT ON runs BEGIN DELETE FROM runs; END")


def lies(file: Path) -> None:
    with opened_for_writing(file) as database:
        database.execute("UPDATE runs SET own = replace(CAST(own AS TEXT), '1.5', '9.5')")


def swapped(file: Path) -> None:
    with opened_for_writing(file) as database:
        rows = database.execute("SELECT name, own FROM runs ORDER BY name").fetchall()
        for (name, _), (_, own) in zip(rows, rows[::-1], strict=True):
            database.execute("UPDATE runs SET own = ? WHERE name = ?", (own, name))


def missing_texts(file: Path) -> None:
    with opened_for_writing(file) as database:
        database.execute("DELETE FROM texts")


@pytest.mark.parametrize("harm", [nothing, noise, cut, bits, other_tables, trigger, lies, swapped, missing_texts])
def test_an_index_that_is_not_as_it_was_written_says_nothing_and_is_made_anew(
    results: Path, harm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = afresh([results])
    said([results])
    harm(index_of(results))
    assert said([results]) == truth
    said([results])  # what could not be repaired is made anew by the next one at the latest
    names = opened(monkeypatch)
    assert said([results]) == truth and names == []


def writable_file(file: Path) -> None:
    file.chmod(0o666)


def writable_folder(file: Path) -> None:
    file.parent.chmod(0o777)


def link(file: Path) -> None:
    file.rename(file.with_suffix(".elsewhere"))
    file.symlink_to(file.with_suffix(".elsewhere"))


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def no_folder(file: Path) -> None:
    shutil.rmtree(file.parent)
    file.parent.touch()


@pytest.mark.parametrize("harm", [writable_file, writable_folder, link, folder, no_folder])
def test_an_index_that_others_may_have_written_or_that_is_none_is_left_alone(
    results: Path, harm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    said([results])
    lies(index_of(results))
    harm(index_of(results))
    names = opened(monkeypatch)
    assert said([results]) == afresh([results]) and len(names) == 12


def test_an_index_of_another_user_is_left_alone(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said([results])
    owner = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: owner)
    names = opened(monkeypatch)
    assert said([results]) == afresh([results]) and len(names) == 12


def test_a_cache_that_cannot_be_written_and_a_results_folder_that_cannot_do_no_harm(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refused)
        assert said([results]) == afresh([results])
    for path in [results, *results.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    assert said([results]) == afresh([results]) == said([results])


def test_a_full_disk_costs_the_index_and_nothing_else(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect

    def nearly_full(*given: Any, **options: Any) -> sqlite3.Connection:
        database = connect(*given, **options)
        database.execute("PRAGMA max_page_count = 5")
        return database

    monkeypatch.setattr(sqlite3, "connect", nearly_full)
    assert said([results]) == afresh([results]) == said([results])


def test_indexes_that_nobody_used_for_long_are_removed_when_another_is_made(
    results: Path, tmp_path: Path, small_indexes: Path
) -> None:
    said([results])
    old = index_of(results)
    os.utime(old, (0, 0))
    publish(tmp_path / "others")
    said([tmp_path / "others"])
    assert list(small_indexes.glob("*.sqlite")) == [index_of(tmp_path / "others")]


# -- several processes ------------------------------------------------------------------------------------------------


def read_often(results: Path, cache: Path, seeds: range, answers: Any) -> None:
    os.environ["XDG_CACHE_HOME"] = str(cache)
    run_index.SMALLEST, run_index.SETTLED_AFTER = 1, -60.0
    for seed in seeds:
        publish(results, "naive", seed)
        answers.put(len(read_all([results])[1]))


@pytest.mark.slow
def test_processes_that_read_publish_and_write_at_once_do_no_harm(results: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    processes = [
        context.Process(target=read_often, args=(results, tmp_path / "cache", range(10 * n, 10 * n + 4), answers))
        for n in range(1, 4)
    ]
    for process in processes:
        process.start()
    unreadable = [answers.get(timeout=120) for _ in range(12)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0] and unreadable == [0] * 12
    assert said([results]) == afresh([results])


def test_an_index_that_another_process_holds_is_left_as_it_is(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said([results])
    monkeypatch.setattr(run_index, "_WAIT", 0.1)
    holder = sqlite3.connect(index_of(results), isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    publish(results, "naive", 7)
    assert said([results]) == afresh([results])
    holder.close()
    assert said([results]) == afresh([results])


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_writes_leaves_an_index_that_serves_or_is_made_anew(
    results: Path, tmp_path: Path
) -> None:
    code = (
        "import sys, time, pathlib; from clbench.results import run_index, stored_runs\n"
        "run_index.SMALLEST, run_index.SETTLED_AFTER, run_index._BATCH = 1, -60.0, 1\n"
        "def slow(*parts, made=run_index._hash):\n"
        "    print('writes', flush=True); time.sleep(0.05); return made(*parts)\n"
        "run_index._hash = slow\n"
        "stored_runs.read_all([pathlib.Path(sys.argv[1])])\n"
    )
    for writes in (2, 5, 9):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(results)],
            stdout=subprocess.PIPE,
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        )
        assert process.stdout
        for _ in range(writes):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        process.stdout.close()
        assert said([results]) == afresh([results])
        index_of(results).unlink()


# -- runs that are skipped --------------------------------------------------------------------------------------------


def test_a_run_is_known_to_be_undamaged_until_a_file_of_it_changes(results: Path) -> None:
    names = [path.relative_to(results).as_posix() for path in store.published_runs(results)]
    assert stored_runs.unchanged(results, names) == set()
    said([results])
    assert stored_runs.unchanged(results, [*names, "tiny/naive/none-seed0-00000000"]) == set(names)
    (results / names[0] / "costs.json").write_bytes(b"{}")
    assert stored_runs.unchanged(results, names) == set(names[1:])


def test_ten_thousand_runs_take_little_memory_each(results: Path) -> None:
    """A whole spec and result as objects take some 50 kB; facts share what runs have in common."""
    from clbench.results.run_facts import Shared, facts_of

    said([results])
    import tracemalloc

    indexes = run_index.RunIndexes(
        {os.path.realpath(path): stored_runs.Folder(path) for path in store.published_runs(results)}
    )
    known = dict(indexes.known())
    shared = Shared()
    [facts_of(row, shared) for row in known.values()]
    tracemalloc.start()
    held = [facts_of(row, shared) for row in known.values()]
    size = tracemalloc.get_traced_memory()[0] / len(held)
    tracemalloc.stop()
    assert size < 6000
