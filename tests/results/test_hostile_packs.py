"""Packs that a stranger made or that were changed on the way: read with the right content, or refused in one line.

Written by hand for each kind of attack, and by a fuzzer for those that nobody thought of. Nothing is executed, nothing
outside of a results folder is written, and a pack takes no more time and memory than its size allows.
"""

import contextlib
import copy
import io
import json
import pickle
import random
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored_runs import publish

from clbench.cli import stored_runs as reading
from clbench.errors import DataError
from clbench.results import manifests, store
from clbench.results import pack as packs
from clbench.results.pack import INDEX
from clbench.results.pack_layout import directory, local_header
from clbench.results.pack_publishing import unpack
from clbench.results.pack_writing import write_pack
from clbench.results.record_model import to_json
from clbench.results.stored_runs import read_all

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A pack of two runs and a study."""
    folder = tmp_path_factory.mktemp("sound")
    runs = [publish(folder / "results", "naive"), publish(folder / "results", "lwf", old=0.4)]
    write_pack(folder / "study.zip", runs, study=b"seeds = 1\n")
    return (folder / "study.zip").read_bytes()


def files_of(pack: bytes) -> Files:
    with zipfile.ZipFile(io.BytesIO(pack)) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name != INDEX}


def directory_of(pack: bytes) -> int:
    """Where the list of files at the end begins."""
    start: int = struct.unpack_from("<L", pack, len(pack) - 6)[0]
    return start


def index_of(files: Mapping[str, bytes]) -> dict[str, Any]:
    listed = json.loads(manifests.of(files))["files"]
    return {"schema": 1, "versions": {}, "files": listed}


def forged(files: Mapping[str, bytes], index: Any = None) -> bytes:
    """A pack of these files, which agrees with itself; `index` is what pack.json says, as JSON or as bytes."""
    said = index_of(files) if index is None else index
    made, listed = io.BytesIO(), []
    members = {INDEX: said if isinstance(said, bytes) else json.dumps(said).encode()}
    for name, content in (members | dict(sorted(files.items()))).items():
        crc = zlib.crc32(content)
        listed.append((name, made.tell(), len(content), crc))
        made.write(local_header(name, len(content), crc) + content)
    made.write(directory(listed, made.tell()))
    return made.getvalue()


def resealed(files: Files) -> Files:
    """The files with manifests of the runs that agree with them, as a forger would make them."""
    sealed = dict(files)
    for name in files:
        if name.endswith(manifests.MANIFEST):
            run = name.rpartition("/")[0] + "/"
            own = {other.removeprefix(run): content for other, content in files.items() if other.startswith(run)}
            sealed[name] = manifests.of({each: content for each, content in own.items() if each != manifests.MANIFEST})
    return sealed


@contextlib.contextmanager
def memory_below(limit: int) -> Iterator[None]:
    """In this context, no more bytes than this are held at a time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def refusal(path: Path, content: bytes) -> str:
    """The message on a pack that is refused, whichever way it is read."""
    path.write_bytes(content)
    said = []
    for read in (lambda: read_all([path]), lambda: unpack(path, path.parent / "out")):
        with pytest.raises(DataError) as refused:
            read()
        said.append(refused.value.message)
    assert said[0] == said[1] and said[0].isprintable() and len(said[0]) < 500
    assert not (path.parent / "out").exists()
    return said[0]


def left_out(path: Path, content: bytes) -> list[str]:
    """The messages on the runs of a pack that are left out, whichever way it is read."""
    path.write_bytes(content)
    _, unreadable = read_all([path])
    assert sorted(unpack(path, path.parent / "out").left_out) == sorted(map(str, unreadable))
    return [each.problem for each in unreadable]


def test_a_pack_that_is_forged_as_it_should_be_is_read(tmp_path: Path, sound: bytes) -> None:
    """Otherwise the tests below would refuse for the wrong reason."""
    assert left_out(tmp_path / "pack.zip", forged(files_of(sound))) == []


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../../evil.json",
        "/etc/evil.json",
        "tiny/naive/../evil.json",
        "tiny/naive/./evil.json",
        "tiny\\naive\\run\\evil.json",
        "tiny/naive/run/evil\0.json",
        "tiny/naive/run/evil.json\n",
        "C:/naive/run/evil.json",
        "tiny/naive/run/.evil.json",
        "tiny/naive/run/evil.py",
        "tiny/naive/run/evil.pkl",
        "tiny/naive/run/nested.zip",
        "tiny/naive/run/more/evil.json",
        "tiny/naive/evil.json",
        "evil.json",
        "MANIFEST.json",
        "sources/evil.py",
        f"sources/{'0' * 64}.PY",
        f"sources/{'A' * 64}.py",
        "strategies/lwf.py",
        ".work/id/checkpoint.json",
        f"{'x' * 65}/naive/run/spec.json",
        "tiny/naive/run/épée.json",
        "",
        "\ud800.json",
    ],
)
def test_a_name_that_no_pack_has_is_refused(tmp_path: Path, sound: bytes, name: str) -> None:
    files = files_of(sound)
    index = index_of(files)
    index["files"][name] = {"size": 2, "sha256": "0" * 64}
    index["files"] = dict(sorted(index["files"].items()))
    said = refusal(tmp_path / "pack.zip", forged(files, index))
    assert "contains a file that no pack may contain" in said or "not valid" in said


def test_a_name_twice_is_refused(tmp_path: Path, sound: bytes) -> None:
    files = files_of(sound)
    text = json.dumps(index_of(files))
    twice = text.replace('"files": {', f'"files": {{"study.toml": {json.dumps({"size": 1, "sha256": "0" * 64})}, ', 1)
    assert "order" in refusal(tmp_path / "pack.zip", forged(files, twice.encode()))
    start = directory_of(sound)
    listed_twice = sound[:start] + sound[start : start + 46 + len(INDEX)] + sound[start:]
    assert "at its end" in refusal(tmp_path / "pack.zip", listed_twice)


def test_a_run_whose_folder_is_not_that_of_its_spec_is_left_out(tmp_path: Path, sound: bytes) -> None:
    files = {name.replace("tiny/naive", "tiny/famous"): content for name, content in files_of(sound).items()}
    (problem,) = left_out(tmp_path / "pack.zip", forged(files))
    assert problem.startswith("its spec is that of tiny/naive/")


# -- zip files that are not packs -------------------------------------------------------------------------------------


def rezipped(sound: bytes, method: int) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(sound)) as archive, zipfile.ZipFile(made, "w", method) as copy:
        for name in archive.namelist():
            copy.writestr(name, archive.read(name))
    return made.getvalue()


def flagged(position: int, value: int) -> Callable[[bytes], bytes]:
    """Change what a header states about the second file, at this position."""

    def change(sound: bytes) -> bytes:
        made = bytearray(sound)
        start = sound.index(b"PK\3\4", 4)
        made[start + position] ^= value
        return bytes(made)

    return change


def listed(position: int, value: int) -> Callable[[bytes], bytes]:
    """Change what the directory at the end states about the second file, at this position."""

    def change(sound: bytes) -> bytes:
        made = bytearray(sound)
        made[directory_of(sound) + 46 + len(INDEX) + position] ^= value
        return bytes(made)

    return change


def overlapping(sound: bytes) -> bytes:
    """The directory has every file at the place of the first."""
    made, start = bytearray(sound), directory_of(sound)
    for name in (INDEX, *files_of(sound)):
        struct.pack_into("<L", made, start + 42, 0)
        start += 46 + len(name)
    return bytes(made)


def bomb(sound: bytes) -> bytes:
    """A pack whose pack.json is a thousand times as large as it looks."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(INDEX, b" " * 50_000_000 + b"{}")
    return made.getvalue()


NOT_PACKS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda sound: b"",
    "text": lambda sound: b"hello\n",
    "the first bytes alone": lambda sound: sound[:20],
    "a zip of something else": lambda sound: b"PK\3\4" + bytes(1000),
    "an empty zip": lambda sound: b"PK\5\6" + bytes(18),
    "packed again, stored": lambda sound: rezipped(sound, zipfile.ZIP_STORED),
    "packed again, compressed": lambda sound: rezipped(sound, zipfile.ZIP_DEFLATED),
    "a bomb": bomb,
    "encrypted": flagged(6, 1),
    "sizes after the content": flagged(6, 8),
    "another method": flagged(8, 8),
    "an extra field": flagged(28, 4),
    "a size in zip64": flagged(18, 255),
    "a link": listed(41, 0o120000 >> 8),
    "another method in the directory": listed(10, 8),
    "a comment on a file": listed(32, 1),
    "another size in the directory": listed(24, 1),
    "another date": listed(12, 1),
    "files that overlap": overlapping,
    "something before it": lambda sound: b"#!/bin/sh\n" + sound,
    "something after it": lambda sound: sound + b"\0",
    "a comment": lambda sound: sound[:-2] + b"\5\0hello",
    "two packs in one": lambda sound: sound + sound,
    "a gap": lambda sound: sound[: directory_of(sound)] + b"\0" + sound[directory_of(sound) :],
    "half of it": lambda sound: sound[: len(sound) // 2],
    "all but the last byte": lambda sound: sound[:-1],
    "without its directory": lambda sound: sound[: directory_of(sound)],
}


@pytest.mark.parametrize("change", NOT_PACKS.values(), ids=NOT_PACKS)
def test_what_is_no_pack_is_refused(tmp_path: Path, sound: bytes, change: Callable[[bytes], bytes]) -> None:
    content = change(sound)
    assert content != sound
    with memory_below(10_000_000):
        refusal(tmp_path / "pack.zip", content)


# -- what pack.json says ----------------------------------------------------------------------------------------------


def entry(value: Any) -> Callable[[dict[str, Any]], Any]:
    def change(index: dict[str, Any]) -> None:
        name = next(iter(index["files"]))
        index["files"][name] = value

    return change


def sized(size: Any) -> Callable[[dict[str, Any]], Any]:
    return entry({"size": size, "sha256": "0" * 64})


INDEXES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a size of a terabyte": sized(10**12),
    "a size beyond all integers": sized(10**400),
    "a negative size": sized(-1),
    "half a byte": sized(0.5),
    "no size": sized(None),
    "a size of NaN": sized(float("nan")),
    "an infinite size": sized(float("inf")),
    "no number": sized("many"),
    "an entry that is a list": entry([]),
    "more of an entry": entry({"size": 1, "sha256": "0" * 64, "method": "deflate"}),
    "no files": lambda index: index.pop("files") and None,
    "files in a list": lambda index: {**index, "files": []},
    "none of the files": lambda index: {**index, "files": {}},
    "not all of the files": lambda index: index["files"].popitem() and None,
    "another order": lambda index: {**index, "files": dict(reversed(index["files"].items()))},
    "a later schema": lambda index: {**index, "schema": 2},
    "a schema beyond all": lambda index: {**index, "schema": 10**4000},
    "no versions": lambda index: index.pop("versions") and None,
    "more": lambda index: {**index, "run": "rm -rf ~"},
    "a list": lambda index: [index],
    "nothing": lambda index: None if index.clear() else {},
    "a number": lambda index: 1,
    "no JSON": lambda index: b"{",
    "no text": lambda index: b"\xff\xfe\0",
    "nested too deep": lambda index: b"[" * 1_000_000 + b"]" * 1_000_000,
    "a name nested too deep": lambda index: b'{"schema": 1, "files": ' + b'{"a":' * 100_000 + b"}" * 100_000 + b"}",
    "a digit too many": lambda index: b'{"schema": ' + b"1" * 100_000 + b"}",
}


@pytest.mark.parametrize("change", INDEXES.values(), ids=INDEXES)
def test_a_list_of_files_that_lies_is_refused(tmp_path: Path, sound: bytes, change: Callable[[Any], Any]) -> None:
    files = files_of(sound)
    index = index_of(files)
    changed = change(index)
    refusal(tmp_path / "pack.zip", forged(files, index if changed is None else changed))


def test_a_later_schema_is_said_to_be_one(tmp_path: Path, sound: bytes) -> None:
    files = files_of(sound)
    said = refusal(tmp_path / "pack.zip", forged(files, index_of(files) | {"schema": 2}))
    assert said.endswith("is a pack of a later schema than 1; update clbench to read it")


def test_a_list_of_files_that_is_too_long_is_refused_before_it_is_read(
    tmp_path: Path, sound: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs, "LARGEST_INDEX", 1000)
    assert "more than 1,000 bytes" in refusal(tmp_path / "pack.zip", sound)


MILLIONS = {
    "of empty entries": lambda size: b'"a":{},' * (size // 7),
    "of entries": lambda size: b",".join(b'"%07x":{}' % number for number in range(size // 13)) + b",",
    "of lists": lambda size: b'"a":[' + b"[]," * (size // 3) + b"[]],",
    "of fields": lambda size: b'"study.toml":{' + b",".join(b'"%07x":1' % n for n in range(size // 12)) + b"},",
}
HELD = """
import resource, sys
from pathlib import Path
from clbench.errors import DataError
from clbench.results.pack import open_pack
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    open_pack(Path(sys.argv[1]))
except DataError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("made", MILLIONS.values(), ids=MILLIONS)
def test_millions_in_the_list_of_files_take_no_more_memory_than_they_are_worth(
    tmp_path: Path, made: Callable[[int], bytes]
) -> None:
    text = b'{"schema":1,"versions":{},"files":{' + made(packs.LARGEST_INDEX - 1000) + b'"z":1}}'
    (tmp_path / "pack.zip").write_bytes(forged({}, text))
    command = [sys.executable, "-c", HELD, str(tmp_path / "pack.zip")]
    held = int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout)
    assert held < 700_000  # in kB


def test_a_pack_that_is_too_large_is_refused_before_it_is_read(
    tmp_path: Path, sound: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs, "LARGEST_PACK", 1000)
    assert "more than 1,000 bytes" in refusal(tmp_path / "pack.zip", sound)


# -- what the runs say ------------------------------------------------------------------------------------------------


def change_run(files: Files, name: str, content: bytes, sealed: bool = True) -> bytes:
    """A pack in which a file of the first run has this content, and all else follows; without `sealed`, only pack.json
    follows."""
    path = next(each for each in files if each.endswith(f"/{name}"))
    changed = files | {path: content}
    return forged(resealed(changed) if sealed else changed)


def test_a_manifest_of_a_run_that_lies_leaves_it_out(tmp_path: Path, sound: bytes) -> None:
    files = files_of(sound)
    made = change_run(files, "costs.json", b"{}", sealed=False)
    assert left_out(tmp_path / "pack.zip", made) == [f"{manifests.MANIFEST} and {INDEX} disagree"]
    for content in (b"", b"{}", b"[" * 100_000, b'{"schema": 1, "files": {"../spec.json": {"size": 1, "sha256": ""}}}'):
        made = change_run(files, manifests.MANIFEST, content, sealed=False)
        (problem,) = left_out(tmp_path / "pack.zip", made)
        assert manifests.MANIFEST in problem


def test_a_run_without_its_manifest_or_without_a_file_is_left_out(tmp_path: Path, sound: bytes) -> None:
    files = files_of(sound)
    for name in (manifests.MANIFEST, "spec.json", "predictions.npz"):
        path = next(each for each in files if each.endswith(f"/{name}"))
        rest = {each: content for each, content in files.items() if each != path}
        assert len(left_out(tmp_path / "pack.zip", forged(rest))) == 1
        assert len(left_out(tmp_path / "pack.zip", forged(resealed(rest)))) == 1


def test_a_content_that_was_changed_leaves_out_its_run_alone(tmp_path: Path, sound: bytes) -> None:
    for name in ("spec.json", "result.json", "costs.json", "environment.json", "predictions.npz"):
        made = bytearray(sound)
        path = next(each for each in files_of(sound) if each.endswith(f"/{name}"))
        made[sound.index(path.encode(), sound.index(b"PK\3\4", 4)) + len(path) + 3] ^= 1
        (problem,) = left_out(tmp_path / "pack.zip", bytes(made))
        assert problem == f"{name} cannot be read (it does not match {INDEX})"


class Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("executed"),)


def npz(**arrays: Any) -> bytes:
    made = io.BytesIO()
    np.savez(made, **arrays)
    return made.getvalue()


def npz_bomb() -> bytes:
    made = io.BytesIO()
    with (
        zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("labels.npy", "w") as f,
    ):
        for _ in range(1100):
            f.write(bytes(2**20))
    return made.getvalue()


HOSTILE_FILES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "a pickle in place of arrays": ("predictions.npz", lambda: pickle.dumps(Harm())),
    "a pickle in an array": ("predictions.npz", lambda: npz(labels=np.array([Harm()], dtype=object))),
    "arrays that claim to be small": ("predictions.npz", npz_bomb),
    "a zip in place of arrays": ("predictions.npz", lambda: b"PK\5\6" + bytes(18)),
    "NaN": ("result.json", lambda: b'{"schema": 2, "status": NaN}'),
    "JSON nested too deep": ("spec.json", lambda: b"[" * 100_000 + b"]" * 100_000),
    "a huge integer": ("costs.json", lambda: b'{"schema": ' + b"9" * 10_000 + b"}"),
    "no JSON": ("environment.json", lambda: b"\0"),
}


@pytest.mark.parametrize(("name", "content"), HOSTILE_FILES.values(), ids=HOSTILE_FILES)
def test_a_hostile_file_leaves_out_its_run_alone_and_is_not_executed(
    tmp_path: Path, sound: bytes, monkeypatch: pytest.MonkeyPatch, name: str, content: Callable[[], bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = change_run(files_of(sound), name, content())
    assert len(left_out(tmp_path / "pack.zip", made)) == 1
    assert len(read_all([tmp_path / "pack.zip"])[0]) == 1
    assert not Path("executed").exists()


def test_a_source_that_is_not_of_its_hash_is_shown_as_missing_and_not_unpacked(tmp_path: Path, sound: bytes) -> None:
    files = files_of(sound)
    for name in [each for each in files if each.startswith(store.SOURCES)]:
        files[name] = b"import os; os.remove('thesis.tex')\n"
    assert left_out(tmp_path / "pack.zip", forged(files)) == []
    assert [run.source for run in read_all([tmp_path / "pack.zip"])[0]] == [None, None]
    assert list((tmp_path / "out").rglob("*.py")) == []


# -- what nobody thought of -------------------------------------------------------------------------------------------


def flip(sound: bytes, rng: random.Random) -> bytes:
    made = bytearray(sound)
    for _ in range(rng.choice((1, 1, 3, 100))):
        made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
    return bytes(made)


def truncate(sound: bytes, rng: random.Random) -> bytes:
    return sound[: rng.randrange(len(sound))]


def swap(sound: bytes, rng: random.Random) -> bytes:
    """Two files change places, with or without their headers."""
    files = files_of(sound)
    one, other = rng.sample(sorted(files), 2)
    if rng.random() < 0.5:
        return forged(files | {one: files[other], other: files[one]}, index_of(files))
    swapped = files | {one: files[other], other: files[one]}
    return forged(swapped)


def edit_directory(sound: bytes, rng: random.Random) -> bytes:
    made, start = bytearray(sound), directory_of(sound)
    for _ in range(rng.choice((1, 2, 8))):
        made[rng.randrange(start, len(made))] = rng.choice((0, 1, 8, 255, rng.randrange(256)))
    return bytes(made)


def edit_headers(sound: bytes, rng: random.Random) -> bytes:
    made, position = bytearray(sound), -1
    places = [at for at in range(len(sound) - 4) if sound[at : at + 4] == b"PK\3\4"]
    position = rng.choice(places)
    for _ in range(rng.choice((1, 2, 8))):
        made[position + rng.randrange(30)] = rng.choice((0, 1, 8, 255, rng.randrange(256)))
    return bytes(made)


def cut_or_insert(sound: bytes, rng: random.Random) -> bytes:
    at, length = rng.randrange(len(sound)), rng.choice((1, 4, 1000))
    return sound[:at] + (sound[at + length :] if rng.random() < 0.5 else rng.randbytes(length) + sound[at:])


POOL: list[Any] = [None, True, -1, 0, 1.5, 1e308, 10**30, "", "x", "../x", "\ud800", [], {}, {"a": 1}, ["x"] * 3]


def edit_index(sound: bytes, rng: random.Random) -> bytes:
    files = files_of(sound)
    index = index_of(files)
    for _ in range(rng.choice((1, 2, 5))):
        inner: Any = index
        while True:
            key = rng.choice(list(inner)) if inner else None
            if key is None or not isinstance(inner[key], dict) or rng.random() < 0.2:
                break
            inner = inner[key]
        if key is not None:
            inner[key] = copy.deepcopy(rng.choice(POOL))
    return forged(files, index)


MUTATIONS = (flip, flip, truncate, swap, edit_directory, edit_headers, cut_or_insert, edit_index)


@pytest.mark.slow
def test_200_mutated_packs_are_read_with_the_right_content_or_refused(
    tmp_path: Path, sound: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out, rng = tmp_path / "pack.zip", tmp_path / "out", random.Random(19)
    path.write_bytes(sound)
    right = {run.result.run_id: content(run) for run in read_all([path])[0]}
    outcomes = []
    began = time.monotonic()
    for number in range(200):
        path.write_bytes(MUTATIONS[number % len(MUTATIONS)](sound, rng))
        try:
            with memory_below(20_000_000):
                runs, unreadable = read_all([path])
                reading.list_runs([path], True)
                done = unpack(path, out / str(number))
        except DataError as error:
            assert error.message.isprintable() and len(error.message) < 500
            outcomes.append("refused")
            continue
        outcomes.append("left out" if unreadable else "read")
        assert all(content(run) == right[run.result.run_id] for run in runs)
        assert len(done.published) == len(runs) and len(done.left_out) == len(unreadable)
        unpacked, damaged = read_all([out / str(number)])
        assert damaged == [] and all(content(run) == right[run.result.run_id] for run in unpacked)
    assert time.monotonic() - began < 300
    assert {path.name for path in tmp_path.iterdir()} <= {"pack.zip", "out"}
    assert "\x1b" not in "".join(capsys.readouterr())
    # Otherwise the mutations are too tame, or too wild.
    assert outcomes.count("refused") > 80 and outcomes.count("left out") > 20 and len(set(outcomes)) >= 2


def content(run: Any) -> list[Any]:
    """All that is read of a run."""
    arrays = [array.tolist() for array in run.final_predictions()]
    return [to_json(run.spec), to_json(run.result), to_json(run.costs), run.environment.model_dump(), arrays]
