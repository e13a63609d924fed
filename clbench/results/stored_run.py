"""A finished run as it is stored: its records, its counts and its predictions, read on demand."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clbench.base.incremental_setting import Setting
from clbench.errors import UsageError
from clbench.evaluation import metrics
from clbench.evaluation.counts import Counts
from clbench.evaluation.curve import Curve
from clbench.evaluation.forward_transfer import forward_transfer
from clbench.results import manifests
from clbench.results.environment import Environment
from clbench.results.run_costs import RunCosts
from clbench.results.run_facts import RunFacts
from clbench.results.run_files import RunFiles
from clbench.results.run_result import RunResult
from clbench.results.run_spec import RunSpec
from clbench.system.output import one_line
from clbench.system.suggestions import did_you_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LARGEST_PREDICTIONS = 2**30


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A finished run. What comparisons need is in memory; its complete records are read on demand."""

    files: RunFiles
    facts: RunFacts

    @property
    def path(self) -> Path:
        """Where its files are."""
        return self.files.path

    @property
    def run_id(self) -> str:
        """Hash of its spec."""
        return self.facts.run_id

    @property
    def spec(self) -> RunSpec:
        """Every choice that its numbers depend on."""
        return self.facts.spec

    @property
    def setting(self) -> Setting:
        """The setting in which the network was trained."""
        return self.spec.scenario.setting

    @property
    def result(self) -> RunResult:
        """Its result, read from its file each time."""
        return RunResult.model_validate_json(json_file(self.files, "result"))

    @property
    def costs(self) -> RunCosts:
        """The time and memory that it took, read from its file each time."""
        return RunCosts.model_validate_json(json_file(self.files, "costs"))

    @property
    def environment(self) -> Environment:
        """Where it was made: versions, processor, times; read from its file each time. No number depends on it."""
        return Environment.model_validate_json(json_file(self.files, "environment"))

    def counts(self, setting: Setting | None = None) -> Counts:
        """The integer counts, read in the run's own setting or in another of its readings."""
        return self.facts.counts(setting or self.setting)

    def curve(self, setting: Setting | None = None) -> Curve | None:
        """Correct test samples within experiences, read likewise; None if it was evaluated only at their ends."""
        return self.facts.curve(setting or self.setting)

    def metric(self, name: str, setting: Setting | None = None) -> Any:
        """A metric by its name (see evaluation/metrics.py), read in the run's own setting or in another.

        Metrics within experiences are None for a run that was evaluated only at their ends, and `forward_transfer` is
        None if the experiences are not domains. Raises UsageError for a name that no metric has.
        """
        if name == forward_transfer.__name__:
            return self.facts.forward_transfer
        if name in metrics.BY_NAME:
            return metrics.BY_NAME[name](self.counts(setting))
        if name not in metrics.BY_NAME_WITHIN:
            known = (*metrics.BY_NAME, *metrics.BY_NAME_WITHIN, forward_transfer.__name__)
            raise UsageError(f"there is no metric '{name}'{did_you_mean(name, known)} (known: {', '.join(known)})")
        curve = self.curve(setting)
        return None if curve is None else metrics.BY_NAME_WITHIN[name](self.counts(setting), curve)

    def final(self, name: str, setting: Setting | None = None) -> float | None:
        """A metric of `run_facts.FINAL` or `FINAL_WITHIN` after the last experience, known without the counts."""
        return self.facts.final(name, setting or self.setting)

    def final_predictions(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """The labels and the predictions of the test samples after the last experience, class ids (N,) each.

        If there was no evaluation then, the predictions are -1. They are read from the run's file each time, since
        those of all runs together may be large.
        """
        arrays = predictions(self.files)
        return arrays["labels"], arrays[self.setting][-1]

    @property
    def source(self) -> bytes | None:
        """The file of the strategy that made it, which is only shown, never run; None if its results folder does not
        have it, or has other content under its hash."""
        content, _ = self._source()
        return content

    @property
    def source_problem(self) -> str | None:
        """What is wrong with the stored file of the strategy; None if nothing is."""
        _, problem = self._source()
        return problem

    def _source(self) -> tuple[bytes | None, str | None]:
        try:
            content = self.files.source(self.spec.strategy.sha256)
        except FileNotFoundError:
            return None, "is missing"
        except OSError as error:
            return None, f"cannot be read ({error.strerror or error})"
        if hashlib.sha256(content).hexdigest() != self.spec.strategy.sha256:
            return None, "has been changed"
        return content, None


@dataclass(frozen=True)
class Unreadable:
    """A folder that is not a valid run; nothing in it is used."""

    path: Path
    problem: str
    other_schema: bool = False
    """Whether its schema is all that is wrong; the problem then says what to do."""

    too_large: bool = False
    """Whether there was not enough memory to read it, so that it may be valid."""

    def __str__(self) -> str:
        """Where it is and what is wrong, in one line: a stranger may have written both."""
        return one_line(f"{self.path}: {self.problem}")


def json_file(files: RunFiles, name: str) -> bytes:
    """Return the content of one of a run's JSON files."""
    return files.read(f"{name}.json", manifests.LARGEST_JSON)


def predictions(files: RunFiles) -> dict[str, Any]:
    """Return the arrays of predictions.npz by name. Raises whatever NumPy raises for a stranger's bytes."""
    import numpy as np

    content = files.read("predictions.npz", _LARGEST_PREDICTIONS)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > _LARGEST_PREDICTIONS:
            raise ValueError("predictions.npz claims more than 1 GiB")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
