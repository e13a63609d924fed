"""Measures the commands that read stored runs on a large study: list, compare, report, and `run` with all skipped.

    python -m benchmarks.scale.stored_runs [--runs N] [--real N] [--place DIR] [--repeats N] [--json FILE]

The first `--real` runs are trained: ten strategies on the digits, one epoch each, class order by seed. The others are
derived from them. Their seed and class order, and therefore their id, are those of the run that they stand for, classes
in predictions and results are renamed accordingly, and the manifest is valid: every command reads them as if they had
been trained.

Each command is a separate process, timed from its start to its end, with its peak memory. The first, `list`, is
executed once without an index, which builds it; then all commands are executed `--repeats` times with the index.
`doctor`, which reads every byte, is executed once.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic_core import from_json

from benchmarks.measuring import command
from clbench.results import environment, manifests, store
from clbench.results.record_model import as_json
from clbench.results.run_spec import RunSpec, experience_classes, folder_name, run_id
from clbench.runs.planned_runs import Planned, plan
from clbench.runs.request import Request

STRATEGIES = ("naive", "joint", "lwf", "ewc", "si", "mas", "er", "icarl", "l2", "lwf_mc")


# -- the runs ---------------------------------------------------------------------------------------------------------


def asked(seeds: int) -> tuple[str, ...]:
    """Return the options of `clbench run` for one run of each strategy and seed."""
    what = ("-s", ",".join(STRATEGIES), "-S", "splitdigits", "--epochs", "1", "--seeds", str(seeds))
    return (*what, "--device", "cpu", "--threads", "1")


def make(runs: int, real: int, out: Path) -> None:
    """Fill the folder `out`: train the first `real` runs, and make the others from them."""
    seeds, trained = runs // len(STRATEGIES), min(runs, real) // len(STRATEGIES)
    subprocess.run(command("run", *asked(trained), "--out", str(out)), check=True, capture_output=True)
    request = Request(
        list(STRATEGIES), ["splitdigits"], seeds=tuple(range(seeds)), epochs=1, device="cpu", threads=1, out=out
    )
    planned = plan(request, lambda event: None)
    models = {(run.plugin.name, run.spec.seeds.run): run.spec for run in planned}
    for run in planned:
        if run.spec.seeds.run >= trained and not (out / run.name).exists():
            model = models[run.plugin.name, run.spec.seeds.run % trained]
            _write(out, run, renamed(_files(out / folder_name(model)), model, run.spec))


def _files(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.iterdir() if path.name != manifests.MANIFEST}


def _write(out: Path, run: Planned, files: dict[str, bytes]) -> None:
    """Write the files to the run's place, without waiting for the disk."""
    built = out / store.WORK / "built"
    built.mkdir()
    for name, content in (*files.items(), (manifests.MANIFEST, manifests.of(files))):
        (built / name).write_bytes(content)
    built.rename(out / run.name)


def renamed(files: dict[str, bytes], model: RunSpec, spec: RunSpec) -> dict[str, bytes]:
    """Return the files of the run `spec`, made from the `files` of `model`, the same run with another seed."""
    class_of = dict(zip(model.scenario.class_order, spec.scenario.class_order, strict=True)) | {-1: -1}
    new_class = np.vectorize(class_of.__getitem__, otypes=[np.int16])
    with np.load(io.BytesIO(files["predictions.npz"])) as arrays:
        predictions = {name: new_class(arrays[name]) for name in arrays.files}
    archive = io.BytesIO()
    np.savez_compressed(archive, **predictions)
    result, costs = (from_json(files[f"{name}.json"]) for name in ("result", "costs"))
    result["run_id"] = costs["run_id"] = run_id(spec)
    for experience, classes in zip(result["experiences"], experience_classes(spec), strict=True):
        experience["classes"] = classes
        experience["class_names"] = [spec.scenario.class_name(each) for each in classes]
    changed = {"spec.json": spec, "result.json": result, "costs.json": costs}
    made = {name: as_json(value) for name, value in changed.items()}
    return {**files, **made, "predictions.npz": archive.getvalue()}


# -- the measurement --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """One command on a number of stored runs."""

    command: str
    runs: int
    with_index: bool
    seconds: list[float]
    """From its start to its end, each time."""

    cpu_seconds: list[float]
    """The time in which it computed."""

    resident_bytes: int
    """The most memory that it held, mapped files among it."""

    page_bytes: int | None
    """Size of the report's page."""


_LAUNCHER = """
import json, os, subprocess, sys, time
began = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
seconds = time.perf_counter() - began
print(json.dumps([os.waitstatus_to_exitcode(status), seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]))
"""
"""Starts a command from a process that is small itself: the system counts what the starting process held."""


def measure(what: Sequence[str], cache: Path) -> tuple[float, float, int]:
    """Return the seconds, the seconds of computing and the peak resident memory in bytes of one command of clbench."""
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", _LAUNCHER, *command(*what)],
        stdout=subprocess.PIPE,
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        check=True,
    )
    code, seconds, computing, memory = json.loads(done.stdout)
    if code:
        raise RuntimeError(f"clbench {' '.join(what)} ended with {code}")
    return seconds, computing, memory


def measurements(out: Path, runs: int, repeats: int) -> Iterator[Measured]:
    """Measure each command, first without an index."""
    with tempfile.TemporaryDirectory() as folder:
        cache, page = Path(folder) / "cache", Path(folder) / "report"
        commands = {
            "list": ("list", "runs", str(out)),
            "compare": ("compare", str(out)),
            "run, all skipped": ("run", *asked(runs // len(STRATEGIES)), "--out", str(out)),
            "report": ("report", str(out), "--out", str(page)),
            "doctor": ("doctor", str(out)),
        }
        for name, what in commands.items():
            for with_index in (False, True) if name == "list" else (True,):
                times = repeats if with_index and name != "doctor" else 1
                took = [measure(what, cache) for _ in range(times)]
                seconds, computing, memory = map(list, zip(*took, strict=True))
                size = (page / "index.html").stat().st_size if name == "report" else None
                yield Measured(name, runs, with_index, seconds, computing, max(memory), size)


def main() -> None:
    """Make the runs, measure, print and, with --json, write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000, help="stored runs")
    parser.add_argument("--real", type=int, default=1_000, help="how many of them are trained")
    parser.add_argument("--place", type=Path, help="folder that keeps the runs for another time")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = (options.place or Path(temporary)) / f"{options.runs}-runs"
        make(options.runs, options.real, out)
        rows: list[dict[str, Any]] = []
        for each in measurements(out, options.runs, options.repeats):
            rows.append(asdict(each))
            size = "" if each.page_bytes is None else f", page {each.page_bytes / 1e6:.2f} MB"
            print(
                f"{each.command:16}  {each.runs:6,} runs, {'with' if each.with_index else 'no':>4} index: "
                f"{statistics.median(each.seconds):6.1f} s, of which {statistics.median(each.cpu_seconds):.1f} s "
                f"computing, {each.resident_bytes / 1e6:,.0f} MB{size}",
                flush=True,
            )
    if options.json:
        machine = environment.describe("cpu")
        options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
