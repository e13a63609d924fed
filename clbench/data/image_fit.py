"""How images of all proportions are brought to one size."""

from __future__ import annotations

from typing import Literal

Fit = Literal["crop", "pad", "stretch"]
"""How an image becomes height × width. crop: the middle, as large as it can be cut out in these proportions. pad: all
of it, on black. stretch: all of it, whatever its proportions."""

FITS: tuple[Fit, ...] = ("crop", "pad", "stretch")
