"""`RunCosts`: the time and memory that a run took on the machine that made it. Equal runs may differ in them."""

from __future__ import annotations

from pydantic import Field

from clbench.results.record_model import SCHEMA, Count, Record, SchemaNumber, Seconds


class ExperienceCosts(Record):
    """One experience."""

    index: Count
    """Its number, from 0."""

    seconds: Seconds
    """Total time."""

    training_seconds: Seconds
    """Time of the epochs."""

    teacher_seconds: Seconds
    """Time of recording the old network's predictions."""

    evaluation_seconds: Seconds
    """Time of predicting the test set."""

    tuning_seconds: Seconds
    """Time of choosing hyper-parameters."""

    phases: dict[str, float] | None
    """Seconds by phase; null on a device that works asynchronously, unless the run waited for it."""

    shared: bool
    """Whether it was trained once for several strategies; the seconds are those of that training."""

    replayed_steps: Count
    """Gradient steps that were replayed from a recorded CUDA graph."""

    not_replayed: str | None
    """Why steps were not replayed, on a device that supports it."""


class CostTotals(Record):
    """Sums over the experiences."""

    seconds: Seconds
    """Total time."""

    training_seconds: Seconds
    """Time of the epochs."""

    teacher_seconds: Seconds
    """Time of recording the old network's predictions."""

    evaluation_seconds: Seconds
    """Time of predicting the test set."""


class PeakMemory(Record):
    """The most memory that was held at one time."""

    host_bytes: Count
    """Resident memory of the process."""

    cuda_bytes: Count | None = None
    """Memory of the GPU; null if there is none."""


class RunCosts(Record):
    """The time and memory that a run took on the machine that made it."""

    schema_number: SchemaNumber = Field(default=SCHEMA, alias="schema")
    """Version of this record's shape."""

    run_id: str
    """Hash of the spec that the costs belong to."""

    experiences: tuple[ExperienceCosts, ...]
    """One entry per experience, in order."""

    totals: CostTotals
    """Sums over the experiences."""

    start_up_seconds: Seconds
    """From the start of the run to its first experience."""

    peak_memory: PeakMemory
    """The most memory that was held at one time."""
