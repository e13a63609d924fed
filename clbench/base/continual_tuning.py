"""The constants of `--tune chf`, the continual hyper-parameter framework, as stored in a run's spec.

The values are those of FACIL (Masana et al. 2020, arXiv 2010.15277); learning rates are multiples of the recipe's.
"""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

from clbench.base.config import described_config


@described_config
class ContinualTuning:
    """A search of learning rate and stability weight, repeated in every experience."""

    how: Literal["chf"] = "chf"
    """Identifies the method of tuning."""

    weight: str | None = None
    """Name of the strategy's stability weight, if it has one."""

    start: float | None = None
    """The first value of the weight to try."""

    validation: Annotated[float, Gt(0), Lt(1)] = 0.1
    """Share of an experience's training data that trials are validated on, unless the recipe has its own."""

    tolerance: Annotated[float, Ge(0), Lt(1)] = 0.2
    """How far the method's accuracy may be below that of fine-tuning, as a share of the latter."""

    decay: Annotated[float, Gt(0), Lt(1)] = 0.5
    """What the weight is multiplied by after a trial outside the tolerance."""

    searches: Annotated[int, Ge(1)] = 7
    """Maximum number of weights to try; if all fail, the next smaller one is used."""

    first_rates: tuple[float, ...] = (5.0, 1.0, 0.5)
    """Learning rates to try in the first experience, as multiples of the recipe's."""

    rates: tuple[float, ...] = (1.0, 0.5, 0.1, 0.05, 0.01)
    """Learning rates for later experiences, as multiples of the recipe's."""

    rate_searches: Annotated[int, Ge(1)] = 3
    """Number of `rates` to try: the largest below the learning rate of the first experience."""
