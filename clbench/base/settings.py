"""What is incremental: the settings in which a network is trained, and those in which its answers are read."""

from __future__ import annotations

from typing import Literal, TypeAlias

Setting: TypeAlias = Literal["class_incremental", "task_incremental", "domain_incremental"]
"""What a network is asked about a test sample: which of all classes seen it is; which of its own experience's classes,
that experience given; or which of its own experience's classes, not given, by outputs that all experiences share
(van de Ven & Tolias 2019, arXiv 1904.07734)."""

READINGS: dict[Setting, tuple[Setting, ...]] = {
    "class_incremental": ("class_incremental", "task_incremental"),
    "task_incremental": ("task_incremental",),
    "domain_incremental": ("domain_incremental",),
}
"""In which settings a run trained in each is evaluated. The task-incremental reading of a class-incremental run masks
its outputs; a task-incremental run is trained with a head for each experience. The two are different things."""
