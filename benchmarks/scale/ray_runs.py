"""Measures what Ray adds to a run, and whether runs are lost when nodes are killed, on a real cluster on this machine.

    python -m benchmarks.scale.ray_runs [--only overhead|kills] [--runs N] [--repeats N] [--work DIR] [--json FILE]

`overhead` times the same short runs on digits with `--jobs 2`, on a cluster of one node with two cores, and on one of
two nodes with one core each, from the start of the command to its end. `kills` executes runs on two nodes, one of which
is killed and replaced every few seconds, and compares every file with those of `--jobs 2`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.scale.local_cluster import LOOPBACK, LocalCluster, local_cluster
from clbench.data.datasets import fetch

JSON = Path(__file__).parents[1] / "measured" / "ray_runs.json"
STRATEGIES = "naive,l2,ewc,lwf,lwf_mc,er,icarl,si,mas,ncm"
APART = ("environment.json", "costs.json", "MANIFEST.json")
"""Files that say where and when a run was done."""

KILL_SECONDS = (20.0, 40.0)
"""Between two kills."""


def study(runs: int) -> list[str]:
    """Return the options for that many runs, at least ten: ten strategies, and seeds."""
    return ["-s", STRATEGIES, "-S", "splitdigits", "--epochs", "1", "--seeds", str(max(1, runs // 10))]


def command(place: Path, runs: int, out: str, on: Sequence[str]) -> subprocess.Popen[str]:
    """Start `clbench run` with that many runs."""
    words = [sys.executable, "-m", "clbench", "run", *study(runs), "--device", "cpu", "--out", out, *on]
    environment = {**os.environ, **LOOPBACK, "CLBENCH_DATA": str(place / "data"), "OMP_NUM_THREADS": "1"}
    log = (place / f"{out}.log").open("w")
    return subprocess.Popen(words, cwd=place, env=environment, stdout=log, stderr=log, text=True)


def seconds_of(place: Path, runs: int, out: str, on: Sequence[str]) -> tuple[float, float]:
    """Return how long a command takes without any stored runs, and how long its own process computes."""
    shutil.rmtree(place / out, ignore_errors=True)
    began = time.perf_counter()
    process = command(place, runs, out, on)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{out} ended with exit code {process.returncode}: see {place / out}.log")
    return seconds, used.ru_utime + used.ru_stime


def overhead(place: Path, runs: int, repeats: int) -> dict[str, Any]:
    """Return the seconds of a command with `runs` runs and with ten, by where they are executed.

    `own` is the computing time of the command's process; with `--jobs` it includes that of the workers.
    """
    found: dict[str, Any] = {}
    with local_cluster(place / "one") as one, local_cluster(place / "two") as two:
        one.add(2, place / "data")
        for _ in range(2):
            two.add(1, place / "data")
        ways = {
            "jobs 2": ["--jobs", "2"],
            "one node": ["--on", f"ray:{one.address}"],
            "two nodes": ["--on", f"ray:{two.address}"],
        }
        for _ in range(repeats):
            for name, on in ways.items():
                (few, few_own), (many, many_own) = (
                    seconds_of(place, count, name.replace(" ", "-"), on) for count in (10, runs)
                )
                more = runs - 10
                row = {"few": few, "many": many, "per_run": (many - few) / more, "own": (many_own - few_own) / more}
                found.setdefault(name, []).append(row)
                print(
                    f"{name}: 10 runs {few:.1f} s, {runs} runs {many:.1f} s, own {row['own']:.3f} s a run", flush=True
                )
    medians = {
        name: {key: statistics.median(row[key] for row in rows) for key in ("few", "per_run", "own")}
        for name, rows in found.items()
    }
    return {"runs": runs, "seconds": found, "medians": medians}


def files_in(results: Path) -> dict[str, bytes]:
    """Return the contents that do not depend on where and when runs were executed, by path."""
    files = (path for path in results.rglob("*") if path.is_file() and path.name not in APART)
    return {str(path.relative_to(results)): path.read_bytes() for path in files if ".work" not in path.parts}


def kills(place: Path, runs: int, seed: int = 0) -> dict[str, Any]:
    """Execute runs while nodes are killed and replaced; return how many are missing, were done twice or differ."""
    draw = random.Random(seed)
    with local_cluster(place / "nodes") as cluster:
        nodes = [cluster.add(1, place / "data") for _ in range(2)]
        began = time.perf_counter()
        process = command(place, runs, "killed", ["--on", f"ray:{cluster.address}"])
        killed = _kill_until_ended(cluster, nodes, process, place / "data", draw)
        seconds = time.perf_counter() - began
    if code := command(place, runs, "local", ["--jobs", "2"]).wait():
        raise SystemExit(f"local ended with exit code {code}")
    here, there = files_in(place / "local"), files_in(place / "killed")
    done = [line for line in (place / "killed.log").read_text().splitlines() if line.endswith(" finished")]
    resumed = [
        json.loads(path.read_text())["resumed_after_experiences"]
        for path in (place / "killed").glob("*/*/*/environment.json")
    ]
    return {
        "runs": runs,
        "killed_nodes": killed,
        "seconds": seconds,
        "exit_code": process.returncode,
        "lost": len([name for name in here if name.endswith("/result.json") and name not in there]),
        "twice": len(done) - len(set(done)),
        "files_that_differ": sum(here[name] != there.get(name) for name in here) + len(there.keys() - here.keys()),
        "files": len(here),
        "moved_with_a_checkpoint": sum(after > 0 for after in resumed),
        "started_again": (place / "killed.log").read_text().count("its node was lost"),
    }


def _kill_until_ended(
    cluster: LocalCluster, nodes: list[Any], process: subprocess.Popen[str], data: Path, draw: random.Random
) -> int:
    killed = 0
    while process.poll() is None:
        try:
            process.wait(draw.uniform(*KILL_SECONDS))
        except subprocess.TimeoutExpired:
            node = nodes.pop(draw.randrange(len(nodes)))
            cluster.kill(node)
            killed += 1
            nodes.append(cluster.add(1, data))
    return killed


def main() -> None:
    """Measure, and write the results."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--only", choices=("overhead", "kills"))
    options.add_argument("--runs", type=int, default=200)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--work", type=Path, default=Path("ray-runs-work"))
    options.add_argument("--json", type=Path, default=JSON)
    given = options.parse_args()
    work = given.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    fetch("digits", work / "data")
    found = json.loads(given.json.read_text()) if given.json.exists() else {}
    if given.only != "kills":
        found["overhead"] = overhead(work, given.runs, given.repeats)
    if given.only != "overhead":
        found["kills"] = kills(work, given.runs)
    given.json.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
