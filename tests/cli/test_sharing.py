"""`clbench pack`, `unpack` and `export-table`, and the commands that read packs: what is said, and the exit codes."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from stored_runs import fail, publish

import clbench
from clbench.cli import program
from clbench.diagnostics import doctor
from clbench.results import manifests
from clbench.results.pack import open_pack
from clbench.results.stored_runs import read_all


@dataclass
class Done:
    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["clbench", *words.split()])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            program.main()
        streams = capsys.readouterr()
        return Done(int(ended.value.code or 0), streams.out, streams.err)

    return call


@pytest.fixture
def results(command: Command) -> Path:
    for strategy in ("naive", "lwf"):
        publish(Path("results"), strategy)
    return Path("results")


def test_from_a_results_folder_to_a_colleagues(command: Command, results: Path) -> None:
    done = command("pack results study.zip")
    assert (done.code, done.err) == (0, "") and done.out.startswith("study.zip: 2 runs, ")
    assert "study.zip" in command("list runs study.zip").out
    assert "naive" in command("compare study.zip").out
    assert command("unpack study.zip --out mine").out == "mine: 2 runs unpacked from study.zip\n"
    done = command("unpack study.zip --out mine")
    assert (done.code, done.err) == (0, "")
    assert done.out == "mine: 0 runs unpacked from study.zip, 2 were there already\n"
    assert command("pack mine study.zip").code == 0  # the same bytes


def test_a_run_of_a_pack_is_named_by_its_place_in_it(command: Command, results: Path) -> None:
    command("pack results study.zip")
    listed = json.loads(command("list runs study.zip --json").out)
    assert {row["run"].rpartition("/")[0] for row in listed} == {"study.zip/tiny/naive", "study.zip/tiny/lwf"}


def test_runs_are_chosen_by_strategy_scenario_and_recipe(command: Command, results: Path) -> None:
    assert command("pack results lwf.zip -s lwf -S tiny --recipe quick").out.startswith("lwf.zip: 1 run, ")
    done = command("pack results other.zip -s lfw")
    assert done.code == 2 and "did you mean 'lwf'?" in done.err
    assert command("export-table results naive.csv -s naive").code == 0
    assert set(pd.read_csv("naive.csv")["strategy"]) == {"naive"}


def test_failed_and_damaged_runs_are_said_to_be_left_out(command: Command, results: Path) -> None:
    fail(results, "mine", 0, "KeyError: 'lost'")
    (publish(results, "spoilt").path / "result.json").write_text("{}")
    done = command("pack results study.zip")
    assert done.code == 1 and done.out.startswith("study.zip: 2 runs")
    damaged, failed = done.err.splitlines()
    assert damaged.startswith("Left out: results/tiny/spoilt/") and damaged.endswith("does not match MANIFEST.json")
    assert failed.startswith("Left out because it failed: tiny/mine/")


def test_kept_networks_are_said_to_be_left_out(command: Command, results: Path) -> None:
    (run, _) = read_all([results])[0]
    (run.path / "network.safetensors").write_bytes(bytes(5000))
    files = {path.name: path.read_bytes() for path in run.path.iterdir() if path.name != manifests.MANIFEST}
    (run.path / manifests.MANIFEST).write_bytes(manifests.of(files))
    done = command("pack results study.zip")
    assert done.code == 0 and done.err.startswith("The kept networks, 5.0 kB, are not in it;")
    assert command("pack results study-with.zip --networks").err == ""


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("pack results", 2, "a pack's name must end in .zip (got results)"),
        ("pack results results/tiny", 2, "a pack's name must end in .zip (got results/tiny)"),
        ("pack nowhere study.zip", 2, "there is no folder or pack nowhere"),
        ("pack results nowhere/study.zip", 4, "cannot write nowhere/study.zip: No such file or directory"),
        ("pack results mine.zip", 2, "mine.zip exists, and is not replaced"),
        ("unpack nowhere.zip", 3, "nowhere.zip cannot be read: No such file or directory"),
        ("unpack mine.zip", 3, "mine.zip is not a pack of clbench"),
        ("compare mine.zip", 3, "mine.zip is not a pack of clbench"),
        ("list runs mine.zip", 3, "mine.zip is not a pack of clbench"),
        ("report mine.zip", 3, "mine.zip is not a pack of clbench"),
        ("export-table results data.txt", 2, "a table's name must end in .parquet or .csv (got data.txt)"),
        ("export-table results mine.csv", 2, "mine.csv exists, and is not replaced"),
        ("export-table results nowhere/data.csv", 4, "cannot write nowhere/data.csv"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(command: Command, results: Path, words: str, code: int, says: str) -> None:
    Path("mine.zip").write_text("my thesis")
    Path("mine.csv").write_text("my thesis")
    done = command(words)
    assert done.code == code and says in done.err + done.out and "Traceback" not in done.err
    assert Path("mine.zip").read_text() == Path("mine.csv").read_text() == "my thesis"


def test_a_run_of_a_pack_that_was_changed_is_left_out_by_each_command(command: Command, results: Path) -> None:
    command("pack results study.zip")
    content = Path("study.zip").read_bytes()
    Path("study.zip").write_bytes(content.replace(b'"gradient_steps": 8', b'"gradient_steps": 9', 1))
    said = "result.json cannot be read (it does not match pack.json)"
    for words in ("compare study.zip", "list runs study.zip", "export-table study.zip data.csv"):
        done = command(words)
        assert said in done.err + done.out, words
        assert done.code == (1 if words.startswith("export") else 0), words
    sound, changed = doctor._runs([Path("study.zip")])
    assert sound.what == "1 run in study.zip, as published"
    assert said in changed.what and changed.exit_code == 1 and changed.fix.startswith("Ask whoever made the pack")
    done = command("unpack study.zip --out mine")
    assert done.code == 1 and said in done.err and done.out.startswith("mine: 1 run unpacked")


def test_the_file_of_a_strategy_that_was_changed_or_is_missing_is_named_by_each_command(
    command: Command, results: Path
) -> None:
    changed, missing = sorted((results / "sources").iterdir())
    changed.write_text("# edited")
    missing.unlink()
    said = (f"results, sources/{changed.name}, has been changed", f"results, sources/{missing.name}, is missing")
    found = [finding for finding in doctor._runs([results]) if finding.exit_code]
    assert len(found) == 2 and all(any(each.what.endswith(text) for each in found) for text in said)
    for words in ("pack results study.zip", "report results --out page"):
        done = command(words)
        assert all(text in done.err for text in said), words
        assert done.code == (1 if words.startswith("pack") else 0), words
    done = command("unpack study.zip --out mine")
    assert done.code == 1 and f"sources/{changed.name}, is missing" in done.err and done.out.startswith("mine: 2 runs")


def test_every_byte_of_a_pack_is_read_by_doctor(command: Command, results: Path) -> None:
    command("pack results study.zip")
    pack = open_pack(Path("study.zip"))
    assert not any(finding.exit_code for finding in doctor._runs([pack.path]))
    for name, member in pack.members.items():
        content = bytearray(pack.path.read_bytes())
        content[member.start + member.size // 2] ^= 1
        Path("other.zip").write_bytes(content)
        faults = [finding.what for finding in doctor._runs([Path("other.zip")]) if finding.exit_code]
        assert len(faults) == 1 and name.rpartition("/")[2] in faults[0], name


def test_doctor_finds_a_file_that_is_no_pack(command: Command) -> None:
    Path("mine.zip").write_text("my thesis")
    (finding,) = doctor._runs([Path("mine.zip")])
    assert finding.what == "mine.zip is not a pack of clbench" and finding.exit_code == 3


# -- a checkout, whose results are packs ------------------------------------------------------------------------------


def test_packs_inside_results_are_named_by_a_bare_command_and_do_not_stand_in_the_way(
    command: Command, results: Path
) -> None:
    Path("reference").mkdir()
    command("pack results reference/a.zip -s naive")
    command("pack results reference/b.zip -s lwf")
    results.rename("mine")
    results.mkdir()
    Path("reference").rename(results / "reference")
    done = command("compare")
    assert done.code == 2 and "no runs in results" in done.err
    assert "Left out: results/reference, which holds packs." in done.err
    assert "To read them: clbench compare results/reference/a.zip results/reference/b.zip" in done.err
    assert "clbench pack results/reference/a.zip results/reference/b.zip all.zip" in command("pack all.zip").err
    assert command("unpack results/reference/a.zip").code == 0  # into results, which holds nothing but packs
    done = command("list runs")
    assert done.code == 0 and "naive" in done.out and "lwf" not in done.out


def test_a_pack_among_ones_own_runs_does_not_hide_them(command: Command, results: Path) -> None:
    assert command("pack results results/tiny/study.zip").code == 0
    publish(results / "nested", "other")  # or all of results would be read
    done = command("list runs")
    assert "naive" in done.out and "results/tiny" not in done.err and "results/nested" in done.err


# -- tables -----------------------------------------------------------------------------------------------------------


def test_parquet_has_the_frame_of_load_with_its_types(command: Command, results: Path) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow.parquet

    assert command("export-table results data.parquet").out == "data.parquet: 12 rows of 2 runs\n"
    expected = clbench.load("results")
    back = pd.read_parquet("data.parquet")
    assert list(back.columns) == list(expected.columns)
    rows = [sorted(map(tuple, table.astype(object).where(table.notna(), "").to_numpy())) for table in (back, expected)]
    assert rows[0] == rows[1]
    types = {field.name: str(field.type) for field in pyarrow.parquet.read_schema("data.parquet")}
    assert types["seed"] == types["correct"] == "int64" and types["accuracy"] == "double"
    assert types["after"] == "int32"
    for name in ("strategy", "preset", "config"):  # no run has a preset
        assert types[name].startswith(("dictionary<values=string", "dictionary<values=large_string")), name


def test_csv_has_the_same_rows(command: Command, results: Path) -> None:
    command("export-table results data.csv")
    assert len(pd.read_csv("data.csv")) == len(clbench.load("results")) == 12


def test_without_pyarrow_it_is_said_how_to_get_it(
    command: Command, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = command("export-table results data.parquet")
    assert done.code == 4 and "needs pyarrow" in done.err and "pip install 'clbench[parquet]'" in done.err
    assert command("export-table results data.csv").code == 0
