"""Moving tensors between main memory and a device."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Return `values` on the device; the copy to a GPU is asynchronous."""
    if device.type == "cpu" or values.device == device:
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
