"""`python -m benchmarks.peers FOLDER`: compare our dialects with the functions of the codebases they are named after.

FOLDER holds the peers' repositories, as work trees or bare clones, under the names in `CHECKS`; missing ones are left
out. Only the functions that are compared are extracted from their files and run, so that the peers' dependencies need
not be installed.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from clbench.base.batch import Batch
from clbench.base.config import configure
from clbench.base.experience import Experience
from clbench.base.strategy import config_class
from clbench.plugins.discovery import select
from clbench.plugins.loading import load
from clbench.system.tables import print_table

SIZES = (2, 3, 2)
OLD, SEEN, SAMPLES, T = 5, 7, 64, 2.0
"""Third experience: five old classes in groups of two and three, and two new ones."""

TOLERANCE = 1e-12


class Repository:
    """A peer's repository, a work tree or a bare clone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def text(self, file: str) -> str:
        if (self.path / file).is_file():
            return (self.path / file).read_text(encoding="utf-8")
        command = ["git", "-C", str(self.path), "show", f"HEAD:{file}"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def revision(self) -> str:
        command = ["git", "-C", str(self.path), "rev-parse", "--short", "HEAD"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def functions(self, file: str, *names: str) -> dict[str, Any]:
        """Return functions and methods of a file, executed without the rest of it."""
        found = [
            node
            for node in ast.walk(ast.parse(self.text(file)))
            if isinstance(node, ast.FunctionDef) and node.name in names
        ]
        assert {node.name for node in found} == set(names), f"{file} has not got all of {names}"
        space: dict[str, Any] = {"torch": torch, "F": F, "np": np}
        for node in found:
            node.decorator_list = []
            exec(compile(ast.Module([node], []), file, "exec"), space)
        return space


Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From student logits (n, seen), teacher logits (n, old) and labels (n,) to the loss."""


def pycil_lwf(repository: Repository) -> Loss:
    kd = repository.functions("models/lwf.py", "_KD_loss")["_KD_loss"]
    return lambda s, t, y: F.cross_entropy(s[:, OLD:], y - OLD) + 3 * kd(s[:, :OLD], t, T)


def facil_lwf(repository: Repository) -> Loss:
    criterion = repository.functions("src/approach/lwf.py", "cross_entropy", "criterion")
    first = [sum(SIZES[:task]) for task in range(len(SIZES))]

    def loss(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
        approach = SimpleNamespace(lamb=1, T=T, exemplars_dataset=(), model=SimpleNamespace(task_offset=first))
        # FACIL's ε of 1e-5 in the student's softmax is left out on both sides, as stated in docs/reproducing.md.
        approach.cross_entropy = lambda a, b, exp: criterion["cross_entropy"](approach, a, b, exp, eps=0.0)
        heads = s.split(SIZES, dim=1)
        value: Tensor = criterion["criterion"](approach, 2, heads, y, t.split(SIZES[:2], dim=1))
        return value

    return loss


def mammoth_lwf(repository: Repository) -> Loss:
    theirs = repository.functions("models/lwf.py", "smooth", "modified_kl_div")

    def loss(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
        old, new = (theirs["smooth"](logits.softmax(dim=1), T, 1) for logits in (t, s[:, :OLD]))
        return F.cross_entropy(s, y) + 0.5 * theirs["modified_kl_div"](old, new)

    return loss


def vandeven_kd(repository: Repository) -> Loss:
    theirs = repository.functions("models/utils/loss_functions.py", "loss_fn_kd", "weighted_average")
    return lambda s, t, y: F.cross_entropy(s, y) + theirs["loss_fn_kd"](s, t, T)


@dataclass(frozen=True)
class Check:
    """A preset of ours and the code that it is named after."""

    repository: str
    files: str
    preset: str
    theirs: Callable[[Repository], Loss]
    more: dict[str, Any]
    """Hyper-parameters on top of the preset's, where the peer's function is one part of what the preset does."""


CHECKS = (
    Check("PyCIL", "models/lwf.py", "pycil", pycil_lwf, {}),
    Check("FACIL", "src/approach/lwf.py", "facil", facil_lwf, {}),
    Check("mammoth", "models/lwf.py", "mammoth", mammoth_lwf, {}),
    Check(
        "continual-learning",
        "models/utils/loss_functions.py",
        "vandeven2022",
        vandeven_kd,
        {"cross_entropy_over": "seen", "distillation_over": "seen"},
    ),
)


class Answers(nn.Module):
    """A network that returns the same logits for every input."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, x: Tensor) -> Tensor:
        return self.logits


def ours(check: Check) -> Loss:
    """Return our loss."""
    cls = load(select("strategy", "lwf_dialects"))
    values = {**cls.presets[check.preset]["set"], **check.more}

    def loss(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
        strategy = cls(configure(config_class(cls), values, "lwf"))
        where = Experience(2, SIZES, "class_incremental")
        targets = strategy.teacher_output(Answers(t), y, where)
        value: Tensor = strategy.loss(Batch(y, y, y, s, targets, None, where))  # type: ignore[arg-type]
        return value

    return loss


def difference(check: Check, repository: Repository) -> tuple[float, float]:
    """Return the largest differences of losses and of gradients over ten random draws of logits, in float64."""
    losses, values, gradients = (ours(check), check.theirs(repository)), [], []
    for seed in range(10):
        draw = torch.Generator().manual_seed(seed)
        student = 3 * torch.randn(SAMPLES, SEEN, generator=draw, dtype=torch.float64)
        teacher = 3 * torch.randn(SAMPLES, OLD, generator=draw, dtype=torch.float64)
        y = torch.randint(OLD, SEEN, (SAMPLES,), generator=draw)
        got = []
        for loss in losses:
            logits = student.clone().requires_grad_()
            value = loss(logits, teacher, y)
            value.backward()
            assert logits.grad is not None
            got.append((value.detach(), logits.grad))
        values.append(abs(float(got[0][0] - got[1][0])))
        gradients.append(float((got[0][1] - got[1][1]).abs().max()))
    return max(values), max(gradients)


def main(folder: Path) -> int:
    """Print a row per check; return 1 if one disagrees."""
    rows, wrong = [], 0
    for check in CHECKS:
        path = folder / check.repository
        if not path.is_dir():
            print(f"{check.repository} is not in {folder}, left out", file=sys.stderr)
            continue
        repository = Repository(path)
        value, gradient = difference(check, repository)
        agrees = max(value, gradient) <= TOLERANCE
        wrong += not agrees
        said = "agrees" if agrees else "DISAGREES"
        peer = f"{check.repository} {repository.revision()}"
        rows.append([f"lwf:{check.preset}", peer, check.files, f"{value:.0e}", f"{gradient:.0e}", said])
    headings = ["preset", "peer", "its file", "loss", "gradient", ""]
    print_table(Console(highlight=False), "largest differences, float64", headings, rows, numbers=(3, 4))
    return int(wrong > 0)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1])))
