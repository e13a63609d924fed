"""The settings in which a network is trained, and those in which its predictions are evaluated."""

from __future__ import annotations

from typing import Literal, TypeAlias

Setting: TypeAlias = Literal["class_incremental", "task_incremental", "domain_incremental"]
"""What a network predicts for a test sample: its class among all classes seen so far; its class within its experience,
which is given; or its class within its experience, which is not given, by outputs that all experiences share (van de
Ven & Tolias 2019, arXiv 1904.07734)."""

READINGS: dict[Setting, tuple[Setting, ...]] = {
    "class_incremental": ("class_incremental", "task_incremental"),
    "task_incremental": ("task_incremental",),
    "domain_incremental": ("domain_incremental",),
}
"""The settings in which a run is evaluated, by the setting in which it is trained. A class-incremental run is evaluated
task-incrementally by masking its outputs; a run trained task-incrementally, with a head for each experience, is not the
same."""
