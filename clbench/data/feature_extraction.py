"""Computes the features that a frozen network has for images, on all cores.

Each batch is computed by one thread, and several at once by a pool of threads, instead of one after another by all
threads: torch releases the interpreter while it computes, no thread waits for another one, and the result has the
same bits whatever the number of cores. How large a batch is depends on the size of the network's input only.
"""

from __future__ import annotations

import copy
import queue
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from clbench.errors import MachineError, PluginError
from clbench.system import memory
from clbench.system.devices import to_device
from clbench.system.machine import available_cores
from clbench.system.output import one_line


class Images(Protocol):
    """Images (n, height, width, channels), an array of them or something that is read like one."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> npt.NDArray[np.uint8]: ...


Features = npt.NDArray[np.float32]
"""(n, features)."""

Prepare = Callable[[Tensor], Tensor]
"""Images as stored, on the device -> the network's input, (n, channels, h, w) of floats."""

# 16 images of 3 x 128 x 128: EfficientNet-Lite0 is fastest with about that many, since the outputs of its layers then
# stay in the caches of a core. So few leave a GPU idle.
_BATCH_VALUES = {"cpu": 3 * 2**18, "cuda": 3 * 2**23}


class Extraction:
    """Within its context, runs a frozen network on as many threads as there are cores; on a GPU, on one."""

    def __init__(self, trunk: nn.Module, prepare: Prepare, device: torch.device, workers: int | None = None) -> None:
        """`trunk`: (n, channels, h, w) -> (n, features). It is copied, so it does not change.

        Raises PluginError if it cannot be copied, and MachineError if memory is short.
        """
        self.features: int | None = None
        """Number of features, known once the first batch is done."""

        self._prepare, self._device = prepare, device
        self._workers = (workers or available_cores()) if device.type == "cpu" else 1
        self._networks: queue.SimpleQueue[nn.Module] = queue.SimpleQueue()
        for network in _copies(trunk, device, self._workers):
            self._networks.put(network)

    def __enter__(self) -> Extraction:
        self._threads = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(self._workers, "features", partial(torch.set_num_threads, 1))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self._threads)  # what a thread sets holds for all later ones

    def batches(self, images: Images) -> Iterator[Features]:
        """Yield the features of one batch after another, in the order of `images`.

        Raises PluginError if the network fails or returns anything but finite (n, features), and MachineError if memory
        is short.
        """
        size = self._batch_size(images)
        waiting: deque[Future[Features]] = deque()
        for start in range(0, len(images), size):
            if len(waiting) == 2 * self._workers:  # each thread already has its next batch, and few results wait
                yield self._checked(waiting.popleft())
            waiting.append(self._pool.submit(self._compute, images[start : start + size]))
        while waiting:
            yield self._checked(waiting.popleft())

    def _batch_size(self, images: Images) -> int:
        values = self._prepare(torch.from_numpy(images[:1].copy()).to(self._device)).numel()
        return max(1, _BATCH_VALUES[self._device.type] // values)

    def _checked(self, batch: Future[Features]) -> Features:
        features = batch.result()
        if features.shape[1] != (self.features or features.shape[1]):
            raise PluginError(f"the network returned {self.features} features, and then {features.shape[1]}")
        self.features = features.shape[1]
        return features

    def _compute(self, images: npt.NDArray[np.uint8]) -> Features:
        network = self._networks.get()
        try:
            with torch.inference_mode():
                x = self._prepare(to_device(torch.from_numpy(images.copy()), self._device))
                return _as_features(network(x.contiguous(memory_format=torch.channels_last)), len(images))
        except Exception as error:
            raise _failure(error) from error
        finally:
            self._networks.put(network)


def _copies(trunk: nn.Module, device: torch.device, count: int) -> list[nn.Module]:
    """Return copies of a network in evaluation mode, which share their parameters and nothing else.

    A module may keep what it computes as an attribute, which two threads would overwrite.
    """
    try:
        first = copy.deepcopy(trunk).to(device).to(memory_format=torch.channels_last).eval()
        shared = {id(parameter): parameter for parameter in first.parameters()}
        return [first, *(copy.deepcopy(first, dict(shared)) for _ in range(count - 1))]
    except Exception as error:
        raise _failure(error, "cannot be copied") from error


def _as_features(output: object, images: int) -> Features:
    if not isinstance(output, Tensor):
        raise PluginError(f"the network returned {type(output).__name__} instead of a tensor (n, features)")
    if output.ndim != 2 or len(output) != images or not output.shape[1] or not output.is_floating_point():
        what = f"{output.dtype} {tuple(output.shape)}".removeprefix("torch.")
        raise PluginError(f"the network returned {what} for {images} images instead of floats (n, features)")
    features = output.to("cpu", torch.float32).contiguous().numpy()
    if not np.isfinite(features).all():
        raise PluginError("the network returned NaN or infinite features")
    return features


def _failure(error: Exception, what: str = "fails") -> Exception:
    if isinstance(error, PluginError):
        return error
    if memory.is_short(error):
        return MachineError(
            f"memory is short: not enough for the network's features{memory.limit_in_words()}", memory.REMEDY
        )
    return PluginError(f"the network {what}: {type(error).__name__}: {one_line(str(error))}")
