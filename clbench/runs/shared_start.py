"""Trains the first experience once for all strategies that learn it alike, and lets them branch from it.

A strategy with a plain start (see Strategy.first_loss) does not influence how its first experience is trained: the
resulting network depends on the rest of the spec alone. The first run to get there trains it and keeps network,
optimizer and random states in the results folder's `.work`. The command's other runs load them, bit for bit what they
would have trained themselves, and report the time that the training took.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from clbench.audit.audit import Audit
from clbench.base.config import plain
from clbench.results import environment
from clbench.results.record_model import to_json
from clbench.results.run_spec import RunSpec
from clbench.results.store import ResultsFolder
from clbench.runs.checkpoint import OfAnotherVersion, keep, unpacked
from clbench.system.files import Exposed
from clbench.system.randomness import random_state, restore_random_state
from clbench.training.costs import Costs
from clbench.training.loop import Trainer


def learn_shared(trainer: Trainer, spec: RunSpec, results: ResultsFolder, audit: Audit) -> Costs:
    """Do what `trainer.learn(0)` does, unless another run has trained the same: then continue from its result."""
    trainer.begin(0)
    if trainer.first_loss_is_shared:
        kept = results.first_experience(_key(trainer, spec))
        trainer.timer.enter("bookkeeping")
        with FileLock(kept.with_suffix(".lock")):
            trainer.timer.skip()  # waiting for another process is not this run's time
            _train_or_take(trainer, kept, audit)
        trainer.conclude()
    elif trainer.train_current():
        trainer.conclude()
    return trainer.costs


def _train_or_take(trainer: Trainer, kept: Path, audit: Audit) -> None:
    try:
        there = unpacked(kept, [kept.parent])
    except (Exposed, OfAnotherVersion):  # somebody else may have written it, or this version cannot read it
        there = None
    if there and trainer.steps_before is not None and there["costs"].gradient_steps and not there["sent"]:
        there = None  # it was trained without being tracked, so that its losses are not known
    if there:
        trainer.model, trainer.optimizer_state = there["model"].to(trainer.device), there["optimizer"]
        trainer.costs = replace(there["costs"], shared=True)
        trainer.timer.add(there["phases"])
        audit.add_reads(there["reads"])
        if trainer.steps_before is not None:
            trainer.losses.send_again(there["sent"])
        restore_random_state(there["random"])
        return
    before = trainer.timer.so_far()
    trainer.train_current()
    after = trainer.timer.so_far()
    values = {
        "model": trainer.model,
        "optimizer": trainer.optimizer_state,
        "costs": trainer.costs,
        "phases": {phase: after[phase] - before[phase] for phase in after},
        "reads": audit.reads_so_far(),
        "random": random_state(),
        "sent": trainer.losses.sent,
    }
    # It only saves time; the run's own checkpoint reports what is wrong with a disk.
    with trainer.interruption.deferred(), contextlib.suppress(OSError):
        keep(kept, values)


def _key(trainer: Trainer, spec: RunSpec) -> str:
    """Return a hash of everything that the training depends on."""
    machine = environment.describe(spec.device)
    of_spec = to_json(spec)
    everything: dict[str, Any] = {
        **{name: of_spec[name] for name in ("schema", "engine", "scenario", "network", "seeds", "device", "threads")},
        "recipe": plain(trainer.recipe),
        "softmax": vars(trainer.active_strategy)["over"],
        "machine": {name: machine.get(name) for name in ("processor", "gpu", "packages", "variables")},
    }
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()
