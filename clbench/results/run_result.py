"""`RunResult`: the result of a run. Two runs of one spec have the same result, byte for byte."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from clbench.base.config import OMIT_DEFAULT
from clbench.base.incremental_setting import Setting
from clbench.results.record_model import SCHEMA, Count, Record, SchemaNumber


class CountsRecord(Record):
    """Counts of correct test samples; every metric follows from them."""

    correct: tuple[tuple[int, ...] | None, ...]
    """correct[i][j]: correct test samples of experience j after experience i; null if not evaluated."""

    total: tuple[int, ...]
    """Test samples of each experience."""

    class_correct: tuple[tuple[int, ...] | None, ...]
    """The same per class seen so far, in class order."""

    class_total: tuple[int, ...]
    """Test samples of each class, in class order."""

    classes_per_experience: tuple[int, ...]
    """How many new classes each experience has."""

    old_as_new: tuple[int | None, ...]
    """Test samples of old classes that were predicted as a class of the newest experience; null if not counted."""


class CurveRecord(Record):
    """Correct test samples between gradient steps, within experiences; those at their ends are in the counts."""

    steps: tuple[int, ...]
    """Gradient steps since the start of the stream at each point."""

    experiences: tuple[int, ...]
    """The experience being trained at each point."""

    correct: tuple[tuple[int, ...], ...]
    """correct[p][j]: correct test samples of experience j at point p."""


class Trial(Record):
    """One training in the search of an experience."""

    lr: float
    """Its learning rate."""

    weight: float | None
    """Its stability weight; null for fine-tuning."""

    validation_accuracy: float | None
    """Its accuracy on the validation data; null if it diverged."""


class SearchResult(Record):
    """What continual tuning chose for an experience."""

    lr: float
    """The learning rate that was chosen."""

    weight: float | None
    """The stability weight that was chosen; null if there is none to choose."""

    trials: tuple[Trial, ...]
    """The trainings that were tried."""

    samples_seen: Count
    """Samples seen by all trials."""

    gradient_steps: Count
    """Gradient steps of all trials."""


class Reads(Record):
    """Training samples that the strategy read, by the experience that they belong to."""

    current: Count
    """Of the experience being trained."""

    earlier: Count
    """Of earlier ones."""

    later: Count
    """Of later ones."""


class EpochResult(Record):
    """One pass through an experience's training data."""

    loss: float
    """Mean of the strategy's loss over the gradient steps."""

    learning_rate: float
    """Learning rate of the last gradient step."""


class ExperienceResult(Record):
    """One experience."""

    index: Count
    """Its number, from 0."""

    classes: tuple[int, ...]
    """The dataset's ids of its new classes."""

    class_names: tuple[str, ...]
    """The names of these classes."""

    trained: bool
    """Whether the strategy trained in it at all."""

    samples_seen: Count
    """Training samples that passed through the network, repetitions counted."""

    gradient_steps: Count
    """Updates of the weights."""

    epochs: tuple[EpochResult, ...]
    """The epochs in order; empty for a training loop that does not report them."""

    constant_cross_entropy: Annotated[bool, OMIT_DEFAULT] = False
    """Whether the cross-entropy ranged over a single class, so that it was 0 whatever was learned."""

    teacher: Literal["recorded", "online"] | None
    """When the old network predicts: once before training, at every step, or not at all."""

    teacher_bytes: Count
    """Size of the recorded predictions."""

    features_cached: bool
    """Whether the features of a frozen trunk were computed once for all epochs."""

    past_data_bytes: Count
    """Training data of earlier experiences that this one read again."""

    stored_bytes: Count
    """What the strategy carries to the next experience, and the past data that it needs."""

    parameters: Count
    """Parameters of the network after the experience."""

    weights_sha256: str
    """Hash of the network's weights after the experience."""

    reads: Reads
    """Training samples that were read."""

    exemplars: Count
    """Training samples that are stored."""

    tuning: SearchResult | None
    """What was chosen before the experience; null if nothing was."""


class FindingRecord(Record):
    """Something that the strategy did, but may not or should not do."""

    severity: Literal["warn", "violation"]
    """How serious it is."""

    name: str
    """Its kind: `old data`, `memory`, …"""

    experience: Count
    """The experience in which it was done."""

    what: str
    """What was done, as a sentence without its subject."""


class AuditResult(Record):
    """What the strategy was seen to read and store."""

    verdict: Annotated[str, Field(pattern=r"^(pass|warn|violation)(\(.*\))?$")]
    """`pass`, or the worst of the findings."""

    findings: tuple[FindingRecord, ...]
    """What was found."""

    memory: Count
    """The most training samples that the strategy declares to store."""


class Totals(Record):
    """Totals over all experiences."""

    samples_seen: Count
    """Sum of the samples seen."""

    gradient_steps: Count
    """Sum of the gradient steps."""

    stored_bytes: Count
    """The most that was carried from one experience to the next."""

    exemplars: Count
    """The most training samples that were stored."""

    tuning_samples_seen: Count | None
    """Samples seen to choose the hyper-parameters; null if nothing chose them."""

    tuning_gradient_steps: Count | None
    """Gradient steps to choose the hyper-parameters; null if nothing chose them."""


class HyperParameter(Record):
    """A hyper-parameter as the strategy's file declares it."""

    name: str
    """Its name."""

    default: Any
    """Its default."""

    doc: str
    """What the file says about it."""


class StrategyRecord(Record):
    """What the strategy's file says about itself, for reports that do not have the file."""

    reference: Literal["lower", "upper"] | None
    """Whether it bounds a comparison from below or above, rather than being a remedy itself."""

    doc: str
    """The file's docstring."""

    problem: str | None
    """What is wrong with the file's description, if something is."""

    variant: str
    """The source of the preset in use, or what the docstring says after `Variant:`."""

    formula: str
    """The loss of the preset in use; empty if the file has none."""

    hyper_parameters: tuple[HyperParameter, ...]
    """The strategy's hyper-parameters."""

    preset_values: dict[str, Any]
    """The hyper-parameters under the preset and the recipe in use, before the user set any."""

    chosen: Literal["default", "preset", "by hand"]
    """Where the hyper-parameters come from, if no search chose them."""


class AheadRecord(Record):
    """Test samples that are correct before their experience is learned."""

    untrained: tuple[int, ...]
    """Of each experience, with the network's initial weights."""

    following: tuple[int | None, ...]
    """Of the next experience, after each; null for the last, and if not evaluated."""


class RunResult(Record):
    """The result of a run."""

    schema_number: SchemaNumber = Field(default=SCHEMA, alias="schema")
    """Version of this record's shape."""

    status: Literal["finished"] = "finished"
    """A failed run is kept apart, with another record."""

    run_id: str
    """Hash of the spec that the result belongs to."""

    counts: dict[Setting, CountsRecord]
    """Counts by the setting in which the predictions are read."""

    curves: Annotated[dict[Setting, CurveRecord], OMIT_DEFAULT] = Field(default_factory=dict)
    """Correct test samples within experiences, by setting; empty if they were evaluated only at their ends."""

    ahead: Annotated[AheadRecord | None, OMIT_DEFAULT] = None
    """Correct test samples of domains before they were learned; null unless experiences are domains that share
    outputs."""

    training_images: Annotated[tuple[int, ...] | None, OMIT_DEFAULT] = None
    """Training images of each class, in class order; null if none has more than twice as many as another."""

    metrics: dict[Setting, dict[str, Any]]
    """Metrics by setting and name; see evaluation/metrics.py. Undefined ones are null."""

    chance: dict[Setting, tuple[float, ...]]
    """Chance level after each experience, by setting."""

    experiences: tuple[ExperienceResult, ...]
    """One entry per experience, in order."""

    audit: AuditResult
    """What the strategy was seen to read and store."""

    totals: Totals
    """Totals over all experiences."""

    strategy: StrategyRecord
    """What the strategy's file says about itself."""

    notes: tuple[str, ...]
    """What a reader should know about the run."""


class FailedRun(Record):
    """Why a run has no result."""

    schema_number: SchemaNumber = Field(default=SCHEMA, alias="schema")
    """Version of this record's shape."""

    status: Literal["failed", "diverged"]
    """Whether an error was raised, or the loss was not a number."""

    run_id: str
    """Hash of the spec that the run belongs to."""

    error: str
    """What happened."""
