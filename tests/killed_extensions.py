"""Kills an extension at one write after another, and finds out if the same command again ends as if it had not been.

    python killed_extensions.py MODEL IMAGES OLD_TEST FOLDER

A process of its own, because it forks: a process in which other tests have started threads must not. Prints how many
writes there are; any other outcome is an error.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import clbench
from clbench.api import extending
from clbench.extension import folder as folders

MOST_BOUNDARIES = 60


def command(model: Path, images: Path, old_test: Path, out: Path) -> clbench.Extended:
    """Extend the model by two strategies, quickly."""
    return clbench.extend(
        model,
        images,
        strategy="naive,ncm",
        set={"network.train": "head"},
        epochs=1,
        old_test=old_test,
        out=out,
        threads=1,
    )


def content(out: Path) -> dict[str, bytes]:
    """What a finished folder holds, without times."""
    files = {
        path.name: path.read_bytes() for path in out.iterdir() if path.name not in ("MANIFEST.json", "report.html")
    }
    result = json.loads(files["result.json"])
    for each in result["candidates"]:
        each.pop("seconds")
    return {**files, "result.json": json.dumps(result).encode()}


def killed(boundary: int, *arguments: Path) -> int:
    """Do the command in a child that is killed at its write number `boundary`; return its wait status."""
    child = os.fork()
    if child == 0:
        calls = iter(range(MOST_BOUNDARIES))

        def until(function):
            def called(*given):
                if next(calls) == boundary:
                    os.kill(os.getpid(), signal.SIGKILL)
                function(*given)

            return called

        try:
            folders.write_synced, folders.sync_folder = until(folders.write_synced), until(folders.sync_folder)
            command(*arguments)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]


def main(model: Path, images: Path, old_test: Path, place: Path) -> int:
    """Try every write; return how many there are."""
    extending._page = lambda *_: ""  # drawing it takes most of the time
    reference = content(command(model, images, old_test, place / "reference").folder)
    for boundary in range(MOST_BOUNDARIES):
        out = place / f"out{boundary}"
        status = killed(boundary, model, images, old_test, out)
        if status == 0:
            return boundary
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, f"{boundary}: status {status}"
        if out.exists():  # only whole
            assert content(out) == reference, f"{boundary}: half a folder"
        assert content(command(model, images, old_test, out).folder) == reference, f"{boundary}: another end"
        left = [path.name for path in place.iterdir() if path.name.startswith(f".out{boundary}")]
        assert not left, f"{boundary}: it left {left}"
    raise AssertionError("the command never came to its end")


if __name__ == "__main__":
    print(main(*map(Path, sys.argv[1:])))
