"""Runs that a stranger made, with a manifest that agrees: at worst left out with a sentence, and nothing else is read.

Written by hand for each kind of attack, and by a fuzzer for those that nobody thought of.
"""

import copy
import io
import json
import os
import random
import shutil
import stat
import struct
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from stored_runs import publish

from clbench.cli import stored_runs as reading
from clbench.comparison.grouping import compare
from clbench.comparison.table import rows_for_json
from clbench.diagnostics import doctor
from clbench.reporting.publication import Selection, write_report
from clbench.results import manifests, store
from clbench.results.run_costs import RunCosts
from clbench.results.run_result import RunResult
from clbench.results.run_spec import RunSpec, run_id
from clbench.results.store import ResultsFolder
from clbench.results.stored_run import StoredRun, Unreadable
from clbench.results.stored_runs import read, read_all

DEEP = b"[" * 100_000 + b"]" * 100_000
NAMES = ("spec.json", "result.json", "costs.json", "environment.json")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return publish(tmp_path / "results", "stranger", sizes=(2, 2)).path


def seal(run: Path) -> None:
    """Make the manifest agree with the files, as a forger would."""
    files = {path.name: path.read_bytes() for path in run.iterdir() if path.name != manifests.MANIFEST}
    (run / manifests.MANIFEST).write_bytes(manifests.of(files))


def forge(run: Path, name: str, change: Callable[[Any], Any]) -> None:
    """Change what a JSON file of a run says; the ids of the run, if it is the spec, and the manifest follow."""
    value = json.loads((run / name).read_bytes())
    changed = change(value)
    (run / name).write_text(json.dumps(value if changed is None else changed))
    follow_the_spec(run)
    seal(run)


def follow_the_spec(run: Path) -> None:
    try:
        made = run_id(RunSpec.model_validate_json((run / "spec.json").read_bytes()))
        others = {name: json.loads((run / name).read_bytes()) for name in ("result.json", "costs.json")}
        for name, value in others.items():
            (run / name).write_text(json.dumps({**value, "run_id": made}))
    except (ValueError, TypeError, RecursionError):
        pass  # then it is not a spec


def assert_left_out(run: Path) -> str:
    found = read(run)
    assert isinstance(found, Unreadable)
    assert str(found).isprintable() and len(str(found)) < 3000
    return found.problem


# -- what a file says -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_json_nested_too_deep_is_left_out(run: Path, name: str) -> None:
    (run / name).write_bytes(DEEP)
    seal(run)
    assert_left_out(run)


def test_a_manifest_nested_too_deep_is_damage_and_the_run_can_be_done_again(run: Path) -> None:
    (run / manifests.MANIFEST).write_bytes(b'{"files": ' + DEEP + b"}")
    assert "recursion" in assert_left_out(run)
    results = ResultsFolder(run.parents[2])
    name = run.relative_to(results.path).as_posix()
    assert results.settled(name, "id") is None
    assert results.published(name, print) is None  # moved aside


def pop(*path: Any) -> Callable[[Any], None]:
    def change(value: Any) -> None:
        for key in path[:-1]:
            value = value[key]
        del value[path[-1]]

    return change


def put(new: Any, *path: Any) -> Callable[[Any], None]:
    def change(value: Any) -> None:
        for key in path[:-1]:
            value = value[key]
        value[path[-1]] = new

    return change


LIES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "environment is a list": ("environment.json", lambda _: []),
    "packages are a list": ("environment.json", put([], "packages")),
    "variables are a text": ("environment.json", put("PATH", "variables")),
    "a version is an object": ("environment.json", put({}, "packages", "torch")),
    "a date is a number": ("environment.json", put(2026, "finished")),
    "no chance": ("result.json", pop("chance", "class_incremental")),
    "chance of no experience": ("result.json", put([], "chance", "class_incremental")),
    "chance made up": ("result.json", put([1.0, 1.0], "chance", "class_incremental")),
    "no metrics": ("result.json", put({}, "metrics")),
    "unknown verdict": ("result.json", put("splendid", "audit", "verdict")),
    "samples beyond all floats": ("result.json", put(10**400, "totals", "samples_seen")),
    "negative bytes": ("result.json", put(-1, "totals", "stored_bytes")),
    "seconds whose sum is infinite": ("costs.json", put(1.7e308, "totals", "seconds")),
    "fewer classes than experiences": ("spec.json", put([0, 1, 2], "scenario", "class_order")),
    "more classes than experiences": ("spec.json", put([0, 1, 2, 3, 4], "scenario", "class_order")),
    "an experience of no class": ("spec.json", put([4, 0], "scenario", "classes_per_experience")),
    "names of too few classes": ("spec.json", put(["cat"], "scenario", "class_names")),
    "a source elsewhere": ("spec.json", put("../../secret", "strategy", "sha256")),
}


@pytest.mark.parametrize(("name", "change"), LIES.values(), ids=LIES)
def test_what_a_file_may_not_say_is_left_out_with_a_sentence(run: Path, name: str, change: Any) -> None:
    forge(run, name, change)
    assert_left_out(run)


def test_of_an_environment_nothing_is_required(run: Path) -> None:
    forge(run, "environment.json", lambda _: {})
    assert isinstance(read(run), StoredRun)


@pytest.mark.parametrize(
    ("name", "path", "entry"),
    [
        ("result.json", ("experiences",), {}),
        ("result.json", ("counts", "class_incremental", "total"), "x"),
        ("result.json", ("counts", "class_incremental", "correct"), "x"),
        ("result.json", ("audit", "findings"), {}),
        ("costs.json", ("experiences",), {}),
        ("spec.json", ("scenario", "class_order"), "x"),
        ("spec.json", ("scenario", "class_names"), 1),
    ],
    ids=str,
)
def test_a_list_that_is_wrong_throughout_is_refused_at_its_first_entry(
    run: Path, name: str, path: tuple[str, ...], entry: Any
) -> None:
    """A megabyte of empty experiences took 2.6 GB, a description of each field that each of them lacks."""
    forge(run, name, put([entry] * 1000, *path))
    model = {"result.json": RunResult, "costs.json": RunCosts, "spec.json": RunSpec}[name]
    with pytest.raises(ValidationError) as refused:
        model.model_validate_json((run / name).read_bytes())
    assert refused.value.error_count() < 30
    assert_left_out(run)


def archive(method: int = zipfile.ZIP_STORED, **arrays: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as file:
        for name, content in arrays.items():
            file.writestr(f"{name}.npy", content)
    return made.getvalue()


def array_of(shape: str) -> bytes:
    header = f"{{'descr': '|i1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def encrypted() -> bytes:
    content = bytearray(archive(labels=array_of("(1,)") + b"\0"))
    content[6] |= 1  # in the header of the file
    content[content.index(b"PK\x01\x02") + 8] |= 1  # and in the directory
    return bytes(content)


def compressed_in_an_unknown_way() -> bytes:
    content = bytearray(archive(labels=array_of("(1,)") + b"\0"))
    content[8] = 99
    content[content.index(b"PK\x01\x02") + 10] = 99
    return bytes(content)


PREDICTIONS = {
    "no archive": b"predictions",
    "empty archive": archive(),
    "more elements than there is memory": archive(labels=array_of("(10**17,)".replace("10**17", str(10**17)))),
    "negative shape": archive(labels=array_of("(-1,)")),
    "header that is no literal": archive(labels=array_of("(" * 90 + ")" * 90)),
    "encrypted": encrypted(),
    "compressed in an unknown way": compressed_in_an_unknown_way(),
    "broken compression": archive(zipfile.ZIP_DEFLATED, labels=array_of("(9,)") + b"\0" * 9).replace(b"\0", b"\1", 40),
}


@pytest.mark.parametrize("content", PREDICTIONS.values(), ids=PREDICTIONS)
def test_predictions_that_are_none_are_left_out(run: Path, content: bytes) -> None:
    (run / "predictions.npz").write_bytes(content)
    seal(run)
    assert_left_out(run)


@pytest.mark.parametrize("name", ["labels", "class_incremental", "task_incremental"])
def test_an_array_that_the_predictions_have_not_is_named(run: Path, name: str) -> None:
    with np.load(run / "predictions.npz") as arrays:
        kept = {each: arrays[each] for each in arrays.files if each != name}
        assert len(kept) == len(arrays.files) - 1
    np.savez(run / "predictions.npz", **kept)
    seal(run)
    assert assert_left_out(run) == f"its predictions.npz has no array `{name}`"


# -- what is opened ---------------------------------------------------------------------------------------------------


@pytest.fixture
def only_plain_files_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Fail the test before anything but a plain file of a run is opened."""
    opened, opened_by_number = io.open, os.open

    def check(path: Any) -> None:
        if not isinstance(path, int):
            inside = Path(os.path.normpath(path)).is_relative_to(tmp_path / "results")
            assert inside and stat.S_ISREG(os.lstat(path).st_mode), f"{path} was opened"

    def guarded(path: Any, *arguments: Any, **options: Any) -> Any:
        check(path)
        return opened(path, *arguments, **options)

    def guarded_by_number(path: Any, *arguments: Any, **options: Any) -> int:
        check(path)
        return opened_by_number(path, *arguments, **options)

    monkeypatch.setattr(io, "open", guarded)
    monkeypatch.setattr(os, "open", guarded_by_number)
    yield tmp_path
    monkeypatch.undo()


def listing(run: Path, name: str, size: int = 6, sha256: str = "0" * 64) -> None:
    manifest = json.loads((run / manifests.MANIFEST).read_bytes())
    manifest["files"][name] = {"size": size, "sha256": sha256}
    (run / manifests.MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["/dev/zero", "../../../../secret", "..", ".", "", "a/../../../secret", "a\0b"])
def test_a_manifest_that_lists_what_is_outside_opens_nothing(
    run: Path, only_plain_files_below: Path, name: str
) -> None:
    manifest = json.loads((run / manifests.MANIFEST).read_bytes())
    manifest["files"] = {name: {"size": 6, "sha256": "0" * 64}, **manifest["files"]}
    with (run / manifests.MANIFEST).open("w") as file:
        json.dump(manifest, file)
    assert manifests.MANIFEST in assert_left_out(run)


SPECIAL: dict[str, Callable[[Path], None]] = {
    "a pipe": os.mkfifo,
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link out of the folder": lambda path: path.symlink_to("../../../../secret"),
    "a link to a file of the run": lambda path: path.symlink_to("spec.json"),
    "a folder": Path.mkdir,
}


@pytest.mark.parametrize("name", [*NAMES, "predictions.npz", manifests.MANIFEST, "more.txt"])
@pytest.mark.parametrize("make", SPECIAL.values(), ids=SPECIAL)
def test_what_is_no_plain_file_is_not_opened(
    run: Path, only_plain_files_below: Path, name: str, make: Callable[[Path], None]
) -> None:
    if name == "more.txt":
        listing(run, name)
    (run / name).unlink(missing_ok=True)
    make(run / name)
    assert name in assert_left_out(run)


def test_a_source_that_is_no_plain_file_is_not_opened(run: Path, only_plain_files_below: Path) -> None:
    stored_run = read(run)
    assert isinstance(stored_run, StoredRun) and stored_run.source
    (source,) = (run.parents[2] / store.SOURCES).iterdir()
    source.unlink()
    os.mkfifo(source)
    assert stored_run.source is None


def test_a_file_of_another_size_is_not_read(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.truncate(run / "predictions.npz", 2**40)  # a hole, which takes no room on the disk but hours to hash
    assert assert_left_out(run) == "predictions.npz does not match MANIFEST.json"
    manifest = json.loads((run / manifests.MANIFEST).read_bytes())
    manifest["files"]["predictions.npz"]["size"] = 2**40
    (run / manifests.MANIFEST).write_text(json.dumps(manifest))
    assert "more than" in assert_left_out(run)


def test_folders_nested_deeper_than_python_recurses_are_searched(tmp_path: Path) -> None:
    run = publish(tmp_path / "results").path
    here = os.open(tmp_path / "results", os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    try:
        assert list(store.published_runs(tmp_path / "results")) == [run]
    finally:  # pytest's own removal would recurse
        subprocess.run(["rm", "-r", tmp_path / "results"], check=True)


# -- one bad run among others -----------------------------------------------------------------------------------------


def test_one_bad_run_is_named_and_the_others_are_compared_listed_and_examined(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    publish(results, "naive")
    bad = publish(results, "stranger").path
    (bad / "environment.json").write_bytes(DEEP)
    seal(bad)
    for command in (lambda: reading.compare([results]), lambda: reading.list_runs([results], False)):
        command()
        said = capsys.readouterr()
        assert "naive" in said.out and str(bad) in said.err
    findings = list(doctor._runs([results]))
    assert [finding.healthy for finding in findings] == [True, False] and str(bad) in findings[1].what


# -- what nobody thought of -------------------------------------------------------------------------------------------

POOL: list[Any] = [None, True, -1, 0, 2, 1.5, 1e308, 10**400, 2**64]
POOL += [
    "",
    "x",
    "\x1b[2J",
    "\ud800",
    "0" * 64,
    "'; rm -rf ~",
    [],
    [[]],
    [0],
    {},
    {"a": 1},
    ["x"] * 3,
    {"x": {"set": 1}},
]


def somewhere(value: Any, rng: random.Random) -> list[Any]:
    """Return the path of a value within a JSON value, each branch as likely as the others."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    if not keys:
        return []
    key = rng.choice(keys)
    return [key, *(somewhere(value[key], rng) if rng.random() < 0.8 else [])]


def mutated_json(content: bytes, rng: random.Random) -> bytes:
    value = json.loads(content)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        if path := somewhere(value, rng):
            (pop(*path) if rng.random() < 0.2 else put(copy.deepcopy(rng.choice(POOL)), *path))(value)
    text = json.dumps(value)
    return (text.replace('"x"', DEEP.decode()) if rng.random() < 0.1 else text).encode()


def mutated_bytes(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 10, 100))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed[: rng.choice((len(changed), len(changed) // 2, 0))])


def mutated_arrays(content: bytes, rng: random.Random) -> bytes:
    with np.load(io.BytesIO(content)) as stored_arrays:
        arrays = dict(stored_arrays)
    name = rng.choice(list(arrays))
    changes: list[Callable[[Any], Any]] = [
        lambda array: array.astype(rng.choice(["f8", "u8", "c16", "U3", "?", "M8[s]"])),
        lambda array: array[..., :-1],
        lambda array: array[None],
        lambda array: array[:0],
        lambda array: np.full_like(array, rng.choice([-1, 3, 30_000])),
    ]
    arrays[name] = rng.choice(changes)(arrays[name])
    if rng.random() < 0.2:
        del arrays[name]
    made = io.BytesIO()
    np.savez(made, **arrays)
    return made.getvalue()


def mutate(run: Path, rng: random.Random) -> None:
    name = rng.choice([*NAMES, "result.json", "result.json", "predictions.npz"])
    content = (run / name).read_bytes()
    if rng.random() < 0.15:
        content = mutated_bytes(content, rng)
    else:
        content = (mutated_arrays if name.endswith(".npz") else mutated_json)(content, rng)
    (run / name).write_bytes(content)
    if name == "spec.json":
        follow_the_spec(run)
    seal(run)
    if rng.random() < 0.1:
        (run / manifests.MANIFEST).write_bytes(mutated_json((run / manifests.MANIFEST).read_bytes(), rng))


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 mutated runs between two unchanged ones."""
    folder = tmp_path_factory.mktemp("fuzzed") / "results"
    original = publish(folder, "naive").path
    publish(folder, "joint", old=0.8)
    rng = random.Random(16)
    for number in range(200):
        place = folder / "strangers" / "mutated" / f"quick-seed0-{number:08d}"
        shutil.copytree(original, place)
        mutate(place, rng)
    return folder


@pytest.mark.slow
def test_no_mutated_run_ends_a_command(fuzzed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, unreadable = read_all([fuzzed])
    assert {"naive", "joint"} <= {run.spec.strategy.name for run in runs}
    assert len(unreadable) >= 100  # otherwise the mutations are too tame
    reading.compare([fuzzed])
    reading.compare([fuzzed], as_json=True)
    reading.list_runs([fuzzed], False)
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert all(str(fault) in said.err for fault in unreadable)
    assert sum(not finding.healthy for finding in doctor._runs([fuzzed])) == len(unreadable)
    for run in runs:  # a command reads only one of those that are the same run
        assert [rows_for_json(comparison) for comparison in compare([run])]


@pytest.mark.slow
def test_mutated_runs_get_into_a_report_or_are_named_in_it(fuzzed: Path, tmp_path: Path) -> None:
    _, unreadable = read_all([fuzzed])
    written = write_report([fuzzed], tmp_path / "report", Selection(recipes=("quick",), scenarios=("tiny",)))
    assert written.runs >= 2 and len(written.left_out) == len(unreadable)
