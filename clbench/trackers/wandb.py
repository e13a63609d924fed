"""The Weights & Biases tracker, which works offline unless WANDB_MODE says otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clbench.trackers.tracker import Status, TrackedRun, Tracker

_LONGEST_TAG = 64


class WeightsAndBiases(Tracker):
    """Makes one W&B run per run, with the same id, in one group per experiment."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._mode = os.environ["WANDB_MODE"] = os.environ.get("WANDB_MODE") or "offline"
        if self._mode == "offline":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self._runs: dict[str, Any] = {}

    def where(self) -> str:
        """See Tracker."""
        if self._mode == "offline":
            return f"wandb sync {self.folder}/offline-run-*   (uploads what was written offline)"
        return f"in W&B, as set by WANDB_MODE={self._mode}"

    def begin(self, run: TrackedRun) -> None:
        """See Tracker. If a run is resumed, W&B leaves the steps that it already has as they are."""
        import wandb

        self.folder.mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(
            # Nothing about the machine, the code and the environment is sent there.
            console="off",
            disable_git=True,
            save_code=False,
            silent=True,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        self._runs[run.name] = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "clbench"),
            dir=str(self.folder.parent),  # in which wandb makes a folder of its own name
            id=run.run_id,
            name=run.name,
            group=run.experiment,
            tags=[f"{name} {value}"[:_LONGEST_TAG] for name, value in run.tags.items()],
            config=run.config,
            resume="allow",
            reinit="create_new",
            settings=settings,
        )

    def log(self, run: TrackedRun, step: int, values: Mapping[str, float]) -> None:
        """See Tracker."""
        self._runs[run.name].log(dict(values), step=step)

    def end(self, run: TrackedRun, status: Status) -> None:
        """See Tracker."""
        self._runs.pop(run.name).finish(exit_code={"finished": 0, "failed": 1, "interrupted": 130}[status])
