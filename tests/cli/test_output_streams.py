"""Closed pipes, full disks and missing output streams: reported if it matters, never with a traceback."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
RUN = "run -s naive -S splitdigits --epochs 1 --threads 1 --device cpu --out"


def shell(line: str, data: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A line of bash, in which `clbench` is the command; it ends with the first failure in a pipe."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    start = f'set -o pipefail; clbench() {{ {shlex.quote(sys.executable)} -m clbench "$@"; }}; '
    environment |= {"CLBENCH_DATA": str(data), **variables}
    return subprocess.run(["bash", "-c", start + line], capture_output=True, text=True, timeout=300, env=environment)


@pytest.mark.slow
@FULL
@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("arguments", ["--version", "list", "list --json", "show lwf", "show lwf --json"])
def test_output_without_room_is_an_error_of_the_machine(arguments: str, buffered: bool, data: Path) -> None:
    done = shell(f"clbench {arguments} > /dev/full", data, **({} if buffered else {"PYTHONUNBUFFERED": "1"}))
    assert done.returncode == 4
    assert done.stderr == "Error: cannot write the output: No space left on device\n"


@pytest.mark.slow
def test_without_room_for_temporary_files_it_is_said_what_to_do(data: Path, tmp_path: Path) -> None:
    done = shell(f"cd {tmp_path}; ulimit -f 0; clbench {RUN} results", data)
    assert done.returncode == 4
    assert done.stderr.startswith("Error: No usable temporary directory found") and "TMPDIR=FOLDER" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("arguments", ["list", "list --json", "show lwf"])
def test_a_reader_that_has_seen_enough_is_no_error(arguments: str, data: Path) -> None:
    done = shell(f"clbench {arguments} | head -c 1", data)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout) == 1


@pytest.mark.slow
def test_a_command_without_standard_output_does_its_work(data: Path) -> None:
    done = shell("clbench list >&-", data)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_runs_go_on_when_nobody_reads_their_progress(data: Path, tmp_path: Path) -> None:
    done = shell(f"clbench {RUN} {tmp_path} --seeds 2 --jobs 2 2>&1 >/dev/null | head -c 1", data)
    assert done.returncode == 0
    assert len(list(tmp_path.glob("*/*/*/MANIFEST.json"))) == 2


@pytest.mark.slow
def test_an_output_without_some_characters_gets_the_others(data: Path, tmp_path: Path) -> None:
    done = shell(
        f"cd {tmp_path}; {{ clbench {RUN} results && clbench report results && clbench pack results all.zip; }} > said "
        "&& for encoding in latin-1 ascii; do export PYTHONIOENCODING=$encoding; "
        "{ clbench compare results && clbench show ewc; } > $encoding || exit; done",
        data,
        PYTHONIOENCODING="ascii",
    )
    assert done.returncode == 0, done.stderr
    assert "all.zip" in (tmp_path / "said").read_text("ascii")
    for encoding in ("latin-1", "ascii"):
        said = (tmp_path / encoding).read_text(encoding)
        assert "naive" in said and "?" in said


@pytest.mark.slow
def test_json_loses_no_character_to_the_encoding(data: Path) -> None:
    texts = [shell("clbench show ewc --json", data, PYTHONIOENCODING=each).stdout for each in ("ascii", "utf-8")]
    assert texts[0].isascii() and not texts[1].isascii()
    assert json.loads(texts[0]) == json.loads(texts[1])
