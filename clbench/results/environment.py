"""Describes where a run was made: versions, processor, and the few environment variables that can change numbers."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pydantic

from clbench.system.machine import available_cores

PACKAGES = ("clbench", "torch", "torchvision", "avalanche-lib", "numpy", "pandas", "scipy", "scikit-learn")

# An allow-list: everything else in a user's environment, including secrets, is never stored.
VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_VISIBLE_DEVICES",
)


class Environment(pydantic.BaseModel):
    """Where a run was made, as far as it is known; no number depends on it."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore")

    python: str | None = None
    system: str | None = None
    processor: str | None = None
    cores: int | None = None
    gpu: str | None = None
    packages: Mapping[str, str | None] | None = None
    variables: Mapping[str, str] | None = None

    source: str | None = None
    """The commit of clbench, if it ran from a checkout."""

    executor: str | None = None
    """What executed the run: `local`, `ray`, `slurm` or a third party's."""

    started: str | None = None
    finished: str | None = None
    resumed_after_experiences: int | None = None


def describe(device: str) -> dict[str, Any]:
    """Return the content of environment.json as JSON-ready values. Imports torch only for a GPU's name."""
    result: dict[str, Any] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": available_cores(),
        "packages": {name: _version(name) for name in PACKAGES},
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "source": _commit(),
    }
    if device == "cuda":
        import torch

        result["gpu"] = torch.cuda.get_device_name()
    return result


def versions() -> dict[str, str | None]:
    """Return the versions that numbers can depend on: Python's as `3.12`, and those of PACKAGES."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python, **{name: _version(name) for name in PACKAGES}}


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@cache
def _commit() -> str | None:
    """Return the commit of a clbench that runs from a checkout; None for an installed one, and without git.

    Asked once per process: it runs what it has imported, whatever is committed later.
    """
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    reading = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # otherwise git writes to the checkout's index
    try:
        done = subprocess.run(command, env=reading, capture_output=True, text=True, check=False)
    except OSError:  # git is not installed
        return None
    return done.stdout.strip() or None
