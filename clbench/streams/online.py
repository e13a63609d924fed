"""Online learning: every sample is seen once, in small batches, and the network is evaluated along the way."""

from __future__ import annotations

from typing import Annotated, ClassVar

from annotated_types import Ge

from clbench.base.config import config
from clbench.streams.stream_kind import StreamKind


@config
class Online(StreamKind):
    """One pass over the data of each experience, in small batches, with evaluations in between.

    Evaluating within experiences shows the stability gap (De Lange et al. 2023, arXiv 2205.13452).
    """

    passes: ClassVar[int | None] = 1

    batch_size: Annotated[int, Ge(1)] = 10
    """Samples per batch, instead of the recipe's number."""

    evaluate_every: Annotated[int, Ge(0)] = 100
    """Gradient steps between two evaluations within an experience; 0 evaluates only at its end."""
