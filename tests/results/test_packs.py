"""Packs: the same runs give the same bytes, are read without unpacking, and come back as they were published."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from stored_runs import ENVIRONMENT, publish

import clbench
from clbench.errors import DataError, MachineError, UsageError
from clbench.reporting.publication import write_report
from clbench.results import manifests, pack_publishing, pack_writing, store
from clbench.results.counts_frame import frame
from clbench.results.pack import INDEX, STUDY, open_pack
from clbench.results.pack_layout import directory, local_header
from clbench.results.pack_publishing import unpack
from clbench.results.pack_writing import write_pack
from clbench.results.run_selection import Selection
from clbench.results.run_spec import folder_name, run_id
from clbench.results.store import ResultsFolder
from clbench.results.stored_run import StoredRun
from clbench.results.stored_runs import read, read_all


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    for seed in range(2):
        publish(folder, "naive", seed)
        publish(folder, "lwf", seed, old=0.5)
    return folder


@pytest.fixture
def study(results: Path, tmp_path: Path) -> Path:
    return pack_of(results, tmp_path / "study.zip")


def pack_of(results: Path, path: Path, **options) -> Path:
    runs, _ = read_all([results])
    write_pack(path, runs, **options)
    return path


def contents(results: Path) -> dict[str, bytes]:
    """Every published file of a results folder, and its sources."""
    files = [path for path in results.rglob("*") if path.is_file() and store.WORK not in path.parts]
    return {path.relative_to(results).as_posix(): path.read_bytes() for path in files}


# -- what a pack is ---------------------------------------------------------------------------------------------------


def test_the_same_runs_give_the_same_bytes_whatever_their_order_dates_and_rights(results: Path, tmp_path: Path) -> None:
    first = pack_of(results, tmp_path / "first.zip")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(results, elsewhere)
    for path in elsewhere.rglob("*"):
        os.utime(path, (0, 0))
        path.chmod(0o700)
    runs, _ = read_all([elsewhere])
    before = os.umask(0o077)
    try:
        write_pack(tmp_path / "second.zip", runs[::-1])
    finally:
        os.umask(before)
    assert first.read_bytes() == (tmp_path / "second.zip").read_bytes()


def test_a_pack_has_the_files_of_the_runs_their_sources_once_and_a_list_of_them(results: Path, study: Path) -> None:
    with zipfile.ZipFile(study) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names == [INDEX, *sorted(names[1:])]
        packed = {name: archive.read(name) for name in names[1:]}
        index = json.loads(archive.read(INDEX))
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert packed == contents(results)
    assert len([name for name in packed if name.startswith(store.SOURCES)]) == 2
    assert index["files"] == {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in packed.items()
    }
    assert index["versions"]["torch"] == ["2.4.0"] and index["versions"]["python"] == ["3.11.7"]


def test_of_equal_runs_made_elsewhere_only_environment_costs_and_the_manifests_differ(tmp_path: Path) -> None:
    publish(tmp_path / "here", seconds=1.0)
    publish(tmp_path / "there", seconds=2.0, environment=ENVIRONMENT | {"processor": "Another", "cores": 64})
    packs = [zipfile.ZipFile(pack_of(tmp_path / name, tmp_path / f"{name}.zip")) for name in ("here", "there")]
    here, there = ({name: archive.read(name) for name in archive.namelist()} for archive in packs)
    differ = {Path(name).name for name in here if here[name] != there[name]}
    assert here.keys() == there.keys()
    assert differ == {"environment.json", "costs.json", manifests.MANIFEST, INDEX}

    def index(files: dict[str, bytes]) -> dict:
        said = json.loads(files[INDEX])
        left_out = ("environment.json", "costs.json", manifests.MANIFEST)
        return said | {"files": {name: each for name, each in said["files"].items() if Path(name).name not in left_out}}

    assert index(here) == index(there)


def test_a_study_is_packed_with_the_runs(results: Path, tmp_path: Path) -> None:
    path = pack_of(results, tmp_path / "study.zip", study=b"seeds = 2\n")
    assert open_pack(path).read(STUDY, 100) == b"seeds = 2\n"
    assert len(read_all([path])[0]) == 4


def test_a_run_is_packed_under_the_name_of_its_spec_wherever_it_lies(results: Path, tmp_path: Path) -> None:
    (run,) = read_all([results / "tiny" / "naive"])[0][:1]
    shutil.copytree(run.path, tmp_path / "mine" / "renamed")
    path = pack_of(tmp_path / "mine", tmp_path / "mine.zip")
    assert [each.name for each in open_pack(path).runs()] == [folder_name(run.spec)]


@pytest.mark.slow
def test_more_files_than_a_plain_zip_counts_are_read_by_others_and_by_us(tmp_path: Path) -> None:
    files, place, path = [], 0, tmp_path / "many.zip"
    with path.open("wb") as file:
        for number in range(2**16):
            name = f"{number:06}"
            file.write(local_header(name, 0, 0))
            files.append((name, place, 0, 0))
            place = file.tell()
        file.write(directory(files, place))
    with zipfile.ZipFile(path) as archive:
        assert len(archive.namelist()) == 2**16 and archive.testzip() is None


# -- networks ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def with_network(tmp_path: Path) -> StoredRun:
    """A run that has kept its network, as far as a pack examines it."""
    made = publish(tmp_path / "results", "naive")
    files = {path.name: path.read_bytes() for path in made.path.iterdir() if path.name != manifests.MANIFEST}
    files |= {"network.json": b"{}", "network.safetensors": bytes(100_000)}
    shutil.rmtree(made.path)
    run = read(ResultsFolder(tmp_path / "results").publish(folder_name(made.spec), run_id(made.spec), files))
    assert isinstance(run, StoredRun)
    return run


def test_without_its_network_a_run_is_packed_as_if_it_had_never_kept_one(
    with_network: StoredRun, tmp_path: Path
) -> None:
    packed = write_pack(tmp_path / "without.zip", [with_network])
    assert packed.networks_left_out == 100_002 and packed.size < 50_000
    plain = publish(tmp_path / "plain", "naive")
    write_pack(tmp_path / "plain.zip", [plain])
    assert (tmp_path / "without.zip").read_bytes() == (tmp_path / "plain.zip").read_bytes()
    unpack(tmp_path / "without.zip", tmp_path / "mine")
    assert ResultsFolder(tmp_path / "mine").settled(folder_name(plain.spec), run_id(plain.spec))


def test_networks_are_packed_on_request_and_come_back(with_network: StoredRun, tmp_path: Path) -> None:
    assert write_pack(tmp_path / "with.zip", [with_network], networks=True).networks_left_out == 0
    unpack(tmp_path / "with.zip", tmp_path / "mine")
    assert contents(tmp_path / "mine") == contents(tmp_path / "results")


# -- what is not packed -----------------------------------------------------------------------------------------------


def test_a_file_that_is_there_is_not_replaced_unless_it_is_this_very_pack(results: Path, study: Path) -> None:
    before = study.read_bytes(), study.stat().st_mtime_ns
    pack_of(results, study)
    with pytest.raises(UsageError, match="exists, and is not replaced"):
        pack_of(results / "tiny" / "naive", study)
    assert (study.read_bytes(), study.stat().st_mtime_ns) == before
    assert {path.name for path in study.parent.iterdir()} == {"results", "study.zip"}


def test_a_folder_is_not_taken_for_the_name_of_a_pack(results: Path) -> None:
    with pytest.raises(UsageError, match=r"must end in \.zip"):
        pack_of(results, results / "tiny")


def test_a_full_disk_leaves_no_pack_and_no_stray_file(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pack_writing.os, "fsync", full)
    with pytest.raises(MachineError, match="No space left"):
        pack_of(results, tmp_path / "study.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_a_run_that_changes_while_it_is_packed_ends_the_pack(results: Path, tmp_path: Path) -> None:
    runs, _ = read_all([results])
    (runs[0].path / "costs.json").write_text("{}")
    with pytest.raises(DataError, match=r"costs\.json changed while"):
        write_pack(tmp_path / "study.zip", runs)
    assert not (tmp_path / "study.zip").exists()


# -- read without unpacking -------------------------------------------------------------------------------------------


def test_a_pack_is_read_as_the_folder_that_it_was_made_of(results: Path, study: Path, tmp_path: Path) -> None:
    runs, unreadable = read_all([study])
    others, _ = read_all([results])
    assert unreadable == [] and frame(runs).equals(frame(others))
    for run, other in zip(runs, others, strict=True):
        assert run.path == study / folder_name(run.spec)
        assert run.source == other.source is not None
        assert all(
            (one == two).all() for one, two in zip(run.final_predictions(), other.final_predictions(), strict=True)
        )
    assert clbench.load(study).equals(clbench.load(results))
    assert {path.name for path in tmp_path.iterdir()} == {"results", "study.zip"}


def test_a_pack_and_the_folder_that_it_was_made_of_are_read_as_one(results: Path, study: Path) -> None:
    assert len(read_all([study, results, study])[0]) == 4


def test_the_report_of_a_pack_is_that_of_the_folder(
    results: Path, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clbench.reporting.figures.all_figures", lambda comparison: [])
    pages = [
        write_report([place], tmp_path / name, Selection(strategies=("naive",))).page
        for place, name in ((study, "of-pack"), (results, "of-folder"))
    ]
    assert pages[0].read_bytes() == pages[1].read_bytes()
    assert clbench.report(study, out=tmp_path / "third", strategy="naive").read_bytes() == pages[0].read_bytes()


def test_nothing_of_a_pack_is_written_anywhere_by_reading_it(study: Path) -> None:
    study.parent.chmod(0o500)
    try:
        assert len(read_all([study])[0]) == 4
    finally:
        study.parent.chmod(0o700)


# -- unpacked ---------------------------------------------------------------------------------------------------------


def test_unpacking_gives_every_file_back_and_twice_is_as_once(results: Path, study: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    done = unpack(study, mine)
    assert (len(done.published), done.there, done.left_out) == (4, [], [])
    assert contents(mine) == contents(results)
    assert list((mine / store.WORK).iterdir()) == []
    again = unpack(study, mine)
    assert (again.published, len(again.there), again.left_out) == ([], 4, [])
    assert pack_of(mine, tmp_path / "again.zip").read_bytes() == study.read_bytes()


def test_a_run_that_was_made_here_too_stays_as_it_is(study: Path, tmp_path: Path) -> None:
    mine = publish(tmp_path / "mine", "naive", 0, seconds=99)
    before = contents(tmp_path / "mine")
    done = unpack(study, tmp_path / "mine")
    assert done.there == [folder_name(mine.spec)] and len(done.published) == 3
    assert before.items() <= contents(tmp_path / "mine").items()


def test_predictions_that_are_compressed_otherwise_are_no_other_result(study: Path, tmp_path: Path) -> None:
    mine = publish(tmp_path / "mine", "naive", 0)
    path = mine.path / "predictions.npz"
    with np.load(path) as arrays:
        again = dict(arrays)
    compressed = path.read_bytes()
    np.savez(path, **again)
    assert path.read_bytes() != compressed
    files: manifests.Files = {each.name: each.read_bytes() for each in mine.path.iterdir()}
    del files[manifests.MANIFEST]
    (mine.path / manifests.MANIFEST).write_bytes(manifests.of(files))
    done = unpack(study, tmp_path / "mine")
    assert (done.there, done.left_out) == ([folder_name(mine.spec)], [])


def test_a_run_with_another_result_is_left_out_and_the_one_that_is_there_stays(study: Path, tmp_path: Path) -> None:
    mine = publish(tmp_path / "mine", "naive", 0, old=0.3)
    before = contents(tmp_path / "mine")
    done = unpack(study, tmp_path / "mine")
    assert len(done.published) == 3 and done.there == []
    assert len(done.left_out) == 1 and "has another result" in done.left_out[0] and str(mine.path) in done.left_out[0]
    assert before.items() <= contents(tmp_path / "mine").items()


def test_a_damaged_run_is_moved_aside_for_the_packs(results: Path, study: Path) -> None:
    (run,) = read_all([results / "tiny" / "lwf"])[0][:1]
    (run.path / "result.json").write_text("{}")
    done = unpack(study, results)
    assert done.published == [folder_name(run.spec)] and len(done.there) == 3
    assert len(done.damaged) == 1 and f"{run.path} was damaged (result.json" in done.damaged[0]
    assert isinstance(read(run.path), StoredRun)
    assert len(list((results / store.DAMAGED).rglob("result.json"))) == 1


def test_a_run_that_another_process_is_doing_is_left_to_it(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_publishing, "_PATIENCE", 0.01)
    (run,) = [each for each in read_all([study])[0] if each.spec.strategy.name == "lwf" and each.spec.seeds.run == 0]
    with ResultsFolder(tmp_path / "mine").lock(run_id(run.spec)):
        done = unpack(study, tmp_path / "mine")
    assert len(done.published) == 3 and "another process is doing it" in done.left_out[0]


def test_a_full_disk_leaves_whole_runs_and_the_same_command_goes_on(
    results: Path, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = []

    def filling(source: Path, path: Path) -> None:
        copied.append(path)
        if len(copied) > 12:
            raise OSError(28, "No space left on device", str(path))
        shutil.copyfile(source, path)

    monkeypatch.setattr(store, "copy_synced", filling)
    with pytest.raises(MachineError, match="No space left"):
        unpack(study, tmp_path / "mine")
    runs, unreadable = read_all([tmp_path / "mine"])
    assert (len(runs), unreadable) == (2, [])
    monkeypatch.undo()
    assert len(unpack(study, tmp_path / "mine").published) == 2
    assert contents(tmp_path / "mine") == contents(results)


UNPACK = "import sys; from pathlib import Path; from clbench.results.pack_publishing import unpack; "
UNPACK += "print('ready', flush=True); unpack(Path(sys.argv[1]), Path(sys.argv[2]))"


def unpacking(study: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", UNPACK, str(study), str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "ready\n"
    return process


@pytest.mark.slow
def test_killed_at_any_time_unpacking_leaves_whole_runs_and_goes_on(tmp_path: Path) -> None:
    for seed in range(30):
        publish(tmp_path / "results", "naive", seed)
    study, mine = pack_of(tmp_path / "results", tmp_path / "study.zip"), tmp_path / "mine"
    for count in (1, 7, 20):
        process = unpacking(study, mine)
        while len(list(mine.glob("tiny/naive/*"))) < count:
            time.sleep(0.001)
        process.kill()
        process.communicate()
        runs, unreadable = read_all([mine])
        assert unreadable == [] and count <= len(runs) < 30
    unpack(study, mine)
    assert contents(mine) == contents(tmp_path / "results")


@pytest.mark.slow
def test_two_that_unpack_at_once_give_what_one_does(tmp_path: Path) -> None:
    for seed in range(20):
        publish(tmp_path / "results", "naive", seed)
    study, mine = pack_of(tmp_path / "results", tmp_path / "study.zip"), tmp_path / "mine"
    processes = [unpacking(study, mine) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    for process in processes:
        process.communicate()
    assert contents(mine) == contents(tmp_path / "results")
