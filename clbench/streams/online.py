"""Online learning: every sample passes by once, in small batches, and the network is evaluated all the while."""

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
    """Samples that come at once; it takes the place of the recipe's."""

    evaluate_every: Annotated[int, Ge(0)] = 100
    """Gradient steps between two evaluations within an experience; 0 evaluates at its end alone."""
