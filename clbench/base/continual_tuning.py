"""How `--tune chf` searches: the constants of the continual hyper-parameter framework, as a run's spec has them.

The values are those of FACIL (Masana et al. 2020, arXiv 2010.15277), its learning rates as multiples of the recipe's.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Gt, Lt

from clbench.base.config import config, plain


@config
class ContinualTuning:
    """A search of learning rate and stability weight, made anew in every experience."""

    weight: str | None = None
    """The strategy's stability weight, where it has one."""

    start: float | None = None
    """The first value of the weight that is tried."""

    validation: Annotated[float, Gt(0), Lt(1)] = 0.1
    """Share of an experience's training data that trials are judged on, unless the recipe says another."""

    tolerance: Annotated[float, Ge(0), Lt(1)] = 0.2
    """How far below fine-tuning, as a share of its accuracy, the method may stay."""

    decay: Annotated[float, Gt(0), Lt(1)] = 0.5
    """By what the weight is multiplied after a trial that stays further below."""

    searches: Annotated[int, Ge(1)] = 7
    """Weights that are tried at most; if all fail, the next smaller one is taken."""

    first_rates: tuple[float, ...] = (5.0, 1.0, 0.5)
    """Learning rates tried in the first experience, as multiples of the recipe's."""

    rates: tuple[float, ...] = (1.0, 0.5, 0.1, 0.05, 0.01)
    """Learning rates of later experiences, as multiples of the recipe's."""

    rate_searches: Annotated[int, Ge(1)] = 3
    """Of `rates`, the largest so many below the rate of the first experience are tried."""

    def to_spec(self) -> dict[str, Any]:
        """Return what the spec of a run says of its tuning."""
        return {"how": "chf", **plain(self)}
