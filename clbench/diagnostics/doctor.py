"""Check everything that a run depends on, and say how to fix what is wrong."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clbench.data.datasets import data_folder, verify
from clbench.errors import DataError
from clbench.plugins import discovery
from clbench.results import environment, manifests, store
from clbench.results.failed_runs import failures
from clbench.results.pack import STUDY, open_pack
from clbench.results.stored_run import Unreadable
from clbench.results.stored_runs import check_every_byte, faulty_sources
from clbench.system import machine, memory
from clbench.system.files import working_folder
from clbench.system.output import one_line
from clbench.system.own_python import code_command
from clbench.system.tables import readable_bytes

IMPORTED = ("torchvision", "avalanche.training.templates")
"""Modules that a run imports and that a release of another package may break."""

PRINT_GPU = "import torch; print(torch.cuda.is_available() and torch.cuda.get_device_name())"


@dataclass(frozen=True)
class Finding:
    """The state of one thing that was checked."""

    what: str
    exit_code: int = 0
    """0 if nothing is wrong; otherwise the exit code of the failure that it would cause."""

    fix: str = ""

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong with it."""
        return self.exit_code == 0


def examine(results: Sequence[Path] | None, data: Path | None) -> Iterator[Finding]:
    """Check installation, machine, plug-ins, data and every byte of stored runs; yield each finding as it is made."""
    folders = list(results or [path for path in [Path("results")] if path.is_dir()])
    yield from _installation()
    yield from _disk()
    yield from _plugins()
    yield from _data(data_folder(data))
    yield from _runs(folders)


def _installation() -> Iterator[Finding]:
    versions = [f"{name} {version or 'missing'}" for name, version in environment.describe("cpu")["packages"].items()]
    for start in range(0, len(versions), 4):  # in lines that fit 80 columns
        yield Finding(", ".join(versions[start : start + 4]))
    together = _python(f"{PRINT_GPU}; import {', '.join(IMPORTED)}")
    for module in IMPORTED:
        done = together if together.returncode == 0 else _python(f"import {module}")
        if done.returncode == 0:
            yield Finding(f"{module} imports")
            continue
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        yield Finding(f"{module} does not import: {last}", 4, _fix_import(done.stderr))
    gpu = together.stdout.partition("\n")[0]
    yield Finding(f"{machine.available_cores()} cores, {'no CUDA device' if gpu in ('', 'False') else gpu}")


def _python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a separate process, because a broken package may crash on import."""
    quiet = code_command(f"import warnings; warnings.simplefilter('ignore'); {code}")
    return subprocess.run(quiet, capture_output=True, text=True, check=False)


def _fix_import(message: str) -> str:
    if memory.is_short(ImportError(message)):
        return memory.REMEDY
    if "torchvision::nms" in message or "undefined symbol" in message:
        return "torch and torchvision come from different builds: pip install --force-reinstall torch torchvision"
    if "distutils" in message:
        return "Avalanche's dependency GPUtil needs setuptools on this Python: pip install setuptools"
    return "pip install --force-reinstall clbench"


def _disk() -> Iterator[Finding]:
    free = shutil.disk_usage(working_folder()).free
    low = free < 2**30
    yield Finding(
        f"{free / 1e9:.1f} GB free here", 4 if low else 0, "Free disk space: a run needs up to 1 GB." if low else ""
    )


def _plugins() -> Iterator[Finding]:
    for kind in discovery.FOLDERS:
        found = discovery.discover(kind)
        broken = [plugin for plugin in found if plugin.problem]
        working = [plugin for plugin in discovery.without_dialects(found) if not plugin.problem]
        yield Finding(f"{len(working)} {discovery.FOLDERS[kind]}")
        for plugin in broken:
            yield Finding(
                f"{kind} {plugin.name}: {plugin.problem}", 5, f"Fix {plugin.path}, or rename it to begin with _"
            )


def _data(folder: Path) -> Iterator[Finding]:
    for name, problem in verify(folder):
        fix = (
            f"Remove {folder / 'arrays' / name}, then fetch or import it again: clbench data --help" if problem else ""
        )
        yield Finding(f"dataset {name}: {problem or 'as recorded'}", 3 if problem else 0, fix)


def _runs(folders: Sequence[Path]) -> Iterator[Finding]:
    for folder in folders:
        try:
            checked = check_every_byte(folder)
        except DataError as error:  # a pack
            yield Finding(one_line(error.message), error.exit_code, error.hint or "")
            continue
        networks = list(store.published_networks(folder)) if folder.is_dir() else []
        for network in networks:
            damage = manifests.damage(network)
            fix = "Replace it with another copy, or make it again under another name." if damage else ""
            yield Finding(f"network {network}: {damage or 'as published'}", 1 if damage else 0, fix)
        count = f"{len(checked.runs)} run{'s' if len(checked.runs) != 1 else ''}"
        if checked.runs or not networks:
            yield Finding(f"{count} in {folder}, {'each ' if len(checked.runs) != 1 else ''}as published")
        for fault in checked.unreadable:
            yield _unreadable(fault)
        for faulty in (*faulty_sources(checked.runs), *_faulty_study(folder)):
            yield Finding(one_line(faulty), 1, "No number depends on it. Replace it with another copy.")
        if wrong := checked.index_was_wrong:
            known = ", ".join(str(path) for path in wrong[:3]) + (", …" if len(wrong) > 3 else "")
            yield Finding(
                one_line(f"the index of {folder} did not agree with the files of {len(wrong)} of its runs: {known}"),
                1,
                "It has been corrected. Earlier tables and reports may have shown what these files once contained.",
            )
        for name in store.abandoned_runs(folder).values():
            yield Finding(
                f"run {name} was under way in a process that ended without a word: it crashed or was killed",
                1,
                "Rerun the same command to resume it.",
            )
        yield from _unfinished(folder)
        for failed in failures([folder]):
            what = one_line(f"failed run {failed.run}: {failed.message}")
            yield Finding(what, 1, f"See {failed.path}/traceback.txt; to forget it, remove the folder.")


def _faulty_study(folder: Path) -> Iterator[str]:
    if folder.is_file() and STUDY in (pack := open_pack(folder)).members:
        try:
            pack.read(STUDY, manifests.LARGEST_JSON)
        except OSError as error:
            yield f"{STUDY} in {folder} cannot be read ({error})"


def _unfinished(folder: Path) -> Iterator[Finding]:
    """Find the unfinished work of failed or stopped runs, which is useless once the strategy's file has changed."""
    failed = {path.name.rpartition("-")[2]: "/".join(path.parts[-3:]) for path in store.failed_runs(folder)}
    for work, size in store.unfinished_work(folder).items():
        run = failed.get(work.name[:8], f"with the id {work.name[:8]}")
        yield Finding(
            one_line(f"unfinished work of the run {run}: {readable_bytes(size)}"),
            fix="The same command resumes from it, unless a file of the run, torch or clbench has changed. To remove "
            f"it: rm -r {shlex.quote(str(work))}",
        )


def _unreadable(fault: Unreadable) -> Finding:
    # Network, epochs and values are in its spec, which may be what is damaged.
    fix = "Remove its folder, then rerun the command that made it."
    if not fault.path.exists():  # it is in a pack
        fix = "Ask whoever made the pack for another copy; its other runs can be used."
    if fault.too_large:
        fix = memory.REMEDY
    return Finding(f"run {fault}", 1, "" if fault.other_schema else fix)
