"""The MLflow tracker, which writes to a local SQLite file unless MLFLOW_TRACKING_URI says otherwise."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clbench.trackers.tracker import Status, TrackedRun, Tracker

_RUN_ID = "clbench.run_id"
_SECONDS_BETWEEN_WRITES = 2.0
_MOST_METRICS, _MOST_PARAMETERS = 1000, 100
"""The most that MLflow accepts at once."""

_LONGEST_PARAMETER = 6000


class MLflow(Tracker):
    """Makes one MLflow run per run, which is found again by a tag, in one experiment per command."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._database = folder.absolute() / "mlflow.db"
        self._uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self._database}"
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        self._runs: dict[str, _Run] = {}
        self._client: Any = None

    def where(self) -> str:
        """See Tracker."""
        if os.environ.get("MLFLOW_TRACKING_URI"):
            return "at MLFLOW_TRACKING_URI"  # which may have a password in it
        return f"mlflow ui --backend-store-uri sqlite:///{self.folder}/mlflow.db"

    def begin(self, run: TrackedRun) -> None:
        """See Tracker."""
        if self._client is None:
            self._client = self._connected()
        there = self._interrupted(run)
        if there is not None:
            self._client.update_run(there, status="RUNNING")
            self._runs[run.name] = _Run(there, self._client, self._logged(there))
            return
        tags = {_RUN_ID: run.run_id, **{f"clbench.{name}": value for name, value in run.tags.items()}}
        made = self._client.create_run(self._experiment(run), run_name=run.name, tags=tags).info.run_id
        self._runs[run.name] = _Run(made, self._client, {})
        self._log_parameters(made, run)

    def log(self, run: TrackedRun, step: int, values: Mapping[str, float]) -> None:
        """See Tracker."""
        self._runs[run.name].log(step, values)

    def end(self, run: TrackedRun, status: Status) -> None:
        """See Tracker."""
        ended = self._runs.pop(run.name)
        ended.write()
        statuses = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
        self._client.set_terminated(ended.key, statuses[status])

    def _connected(self) -> Any:
        from mlflow import MlflowClient

        self.folder.mkdir(parents=True, exist_ok=True)
        return MlflowClient(tracking_uri=self._uri)

    def _experiment(self, run: TrackedRun) -> str:
        found = self._client.get_experiment_by_name(run.experiment)
        if found is not None:
            return str(found.experiment_id)
        place = None if os.environ.get("MLFLOW_TRACKING_URI") else (self._database.parent / "artifacts").as_uri()
        return str(self._client.create_experiment(run.experiment, artifact_location=place))

    def _interrupted(self, run: TrackedRun) -> str | None:
        """Return MLflow's id of the run if it exists and is not finished, whichever command began it."""
        everywhere = [each.experiment_id for each in self._client.search_experiments()]
        found = self._client.search_runs(everywhere, f"tags.`{_RUN_ID}` = '{run.run_id}'")
        return next((each.info.run_id for each in found if each.info.status != "FINISHED"), None)

    def _logged(self, key: str) -> dict[str, int]:
        """Return the last step of each metric that a run has: MLflow would store a second value for a step."""
        metrics = self._client.get_run(key).data.metrics
        return {name: max(each.step for each in self._client.get_metric_history(key, name)) for name in metrics}

    def _log_parameters(self, key: str, run: TrackedRun) -> None:
        from mlflow.entities import Param

        parameters = [Param(name, str(value)[:_LONGEST_PARAMETER]) for name, value in run.config.items()]
        for first in range(0, len(parameters), _MOST_PARAMETERS):
            self._client.log_batch(key, params=parameters[first : first + _MOST_PARAMETERS])


class _Run:
    """A run under way, whose metrics are collected for a while: each write is a transaction."""

    def __init__(self, key: str, client: Any, logged: Mapping[str, int]) -> None:
        self.key, self._client, self._logged = key, client, logged
        self._metrics: list[Any] = []
        self._written = time.monotonic()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        new = {name: value for name, value in values.items() if step > self._logged.get(name, -1)}
        self._metrics += [Metric(name, value, now, step) for name, value in new.items()]
        if time.monotonic() - self._written > _SECONDS_BETWEEN_WRITES:
            self.write()

    def write(self) -> None:
        for first in range(0, len(self._metrics), _MOST_METRICS):
            self._client.log_batch(self.key, metrics=self._metrics[first : first + _MOST_METRICS])
        self._metrics.clear()
        self._written = time.monotonic()
