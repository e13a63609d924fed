"""Capture a gradient step as a CUDA graph and replay it: one launch instead of hundreds of kernel launches.

The step of a small network spends milliseconds on launching kernels that take microseconds each. A CUDA graph launches
them together. They then read and write fixed memory: batches are copied into it, the weights are in it, and Python
numbers keep the value that they had at capture. So a step is replayed only if that makes no difference. This is tested,
not assumed: the first step is computed both ways, and the results must be bit-identical.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from clbench.audit.object_graph import contents_sha256
from clbench.base.own_loop import Inputs
from clbench.networks.network import Network
from clbench.system.randomness import random_state

WARM_UP = 3
"""Number of first steps computed as usual, in which libraries choose kernels and optimizers allocate buffers."""

Step = Callable[[Inputs], Tensor]
"""A whole step on x, labels, rows and teacher outputs: updates the weights and returns the detached loss."""

Witness = Callable[[], Mapping[str, str]]
"""Returns hashes of what a replayed step would not change, by the reason for refusing a step that does change it."""


class Recorder(Protocol):
    """Something that can capture a computation."""

    def aside(self) -> AbstractContextManager[list[str]]:
        """Return a context in which to do the computation that will then be captured.

        Afterwards the list has the reasons why it cannot be captured, as far as they are known without trying.
        """

    def record(self, compute: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Capture `compute` without executing it; return the function that replays it, and the memory of its result.

        Raises if `compute` cannot be captured.
        """


class GraphRecorder:
    """Captures CUDA graphs."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()

    @contextmanager
    def aside(self) -> Iterator[list[str]]:
        """Compute on the stream that is then captured; a computation that waits for the GPU cannot be.

        Capturing it would fail, and after a failed capture the GPU's generator refuses to draw in older versions of
        torch, so that drawing random numbers later would fail, too.
        """
        obstacles: list[str] = []
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream), _noting_waits(obstacles):
            yield obstacles
        torch.cuda.current_stream().wait_stream(self._stream)

    def record(self, compute: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """See Recorder."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            result = compute()
        return graph.replay, result


@contextmanager
def _noting_waits(obstacles: list[str]) -> Iterator[None]:
    """Add an obstacle if the program waits for the GPU; warnings other than torch's about that are shown afterwards."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        caught.clear()  # torch warns that it does not detect everything
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for warning in caught:
        if "called a synchronizing CUDA operation" not in str(warning.message):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        elif not obstacles:
            obstacles.append("a step waits for the GPU")


class NotCaptured(Exception):
    """Raised if a step cannot be replayed, with the `reason`. The step itself was taken; `loss` is its loss."""

    def __init__(self, reason: str, loss: Tensor) -> None:
        super().__init__(reason)
        self.reason, self.loss = reason, loss


class CapturedStep:
    """A captured step, for batches of one shape."""

    def __init__(
        self,
        step: Step,
        inputs: Inputs,
        model: Network,
        optimizer: torch.optim.Optimizer,
        witness: Witness,
        recorder: Recorder,
    ) -> None:
        """Take `step` on `inputs`, and capture it; `loss` is its result.

        Raises NotCaptured if the step changes `witness`, cannot be captured, or gives another result when replayed. In
        any case `model` and `optimizer` are as the step leaves them.
        """
        self._memory = cast(Inputs, tuple(None if value is None else value.clone() for value in inputs))
        changing = _tensors(model, optimizer)
        before, untouched = [tensor.clone() for tensor in changing], witness()
        with recorder.aside() as obstacles:
            self.loss = step(self._memory).clone()
        after = [tensor.clone() for tensor in changing]
        for reason, value in witness().items():
            if value != untouched[reason]:
                raise NotCaptured(reason, self.loss)
        if obstacles:
            raise NotCaptured(obstacles[0], self.loss)
        _write(changing, before)
        try:
            self._replay, self._result = recorder.record(lambda: step(self._memory))
            self._replay()
            same = torch.equal(self._result, self.loss) and all(map(torch.equal, changing, after))
        except Exception as error:
            optimizer.zero_grad()  # the captured gradients are invalid
            _write(changing, after)
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise NotCaptured(reason, self.loss) from error
        if not same:
            _write(changing, after)
            raise NotCaptured("a replayed step gives another result", self.loss)

    def fits(self, inputs: Inputs) -> bool:
        """Whether a batch has the captured shapes; the last one of an epoch may be smaller."""
        return all(
            (held is None) == (value is None) and (held is None or value is None or held.shape == value.shape)
            for held, value in zip(self._memory, inputs, strict=True)
        )

    def __call__(self, inputs: Inputs) -> Tensor:
        """Take the step on another batch that fits; return its loss."""
        for held, value in zip(self._memory, inputs, strict=True):
            if held is not None and value is not None:
                held.copy_(value)
        self._replay()
        return self._result.clone()


class Replay:
    """Replays the steps of one experience if possible; otherwise has the reason why not."""

    def __init__(
        self,
        step: Step,
        model: Network,
        optimizer: torch.optim.Optimizer,
        strategy: object,
        asked_for: Callable[[], int],
        recorder: Recorder,
    ) -> None:
        """`step` trains `model` by `optimizer` with the loss of `strategy`; `asked_for` counts the
        images requested beyond the batch."""
        self._step, self._model, self._optimizer, self._strategy = step, model, optimizer, strategy
        self._asked_for, self._recorder = asked_for, recorder
        self._captured: CapturedStep | None = None
        self._situation: Any = None
        self._warm_up = WARM_UP
        self.steps = 0
        """Number of replayed steps."""

        self.reason: str | None = None
        """Why no further step is replayed."""

    def begin_epoch(self) -> None:
        """Capture again if other parts train than in the last epoch."""
        situation = _situation(self._model, self._strategy)
        if situation != self._situation:
            self._captured, self._situation, self._warm_up = None, situation, WARM_UP

    def train(self, inputs: Inputs) -> Tensor | None:
        """Take the step on a batch and return its loss; None if the caller must compute it as usual."""
        if self.reason is not None:
            return None
        if self._captured is not None:
            if not self._captured.fits(inputs):
                return None
            self.steps += 1
            return self._captured(inputs)
        if self._warm_up:
            self._warm_up -= 1
            return None
        home = self._model.device
        if any(value.device != home for value in inputs if value is not None):
            self.reason = "a batch is not entirely in the device's memory"
            return None
        try:
            self._captured = CapturedStep(
                self._step, inputs, self._model, self._optimizer, self._witness, self._recorder
            )
        except NotCaptured as impossible:
            self.reason = impossible.reason
            return impossible.loss
        return self._captured.loss

    def _witness(self) -> dict[str, str]:
        """See Witness."""
        return {
            "a step changes the strategy": _contents(self._model, self._strategy),
            "a step draws random numbers": contents_sha256(random_state()),
            "a step requests further images": str(self._asked_for()),
        }


def _situation(model: Network, strategy: object) -> Any:
    """Return what a captured step assumes: which parts train, their modes, and what the strategy holds."""
    trains = tuple(parameter.requires_grad for parameter in model.parameters())
    modes = tuple(module.training for module in model.modules())
    held = {name: id(value) for name, value in vars(strategy).items()}  # identity of the memory, not only its content
    return trains, modes, model.trained_rows, held, _contents(model, strategy)


def _contents(model: Network, strategy: object) -> str:
    """Return a hash of what a strategy holds, except the network in training, which it may refer to."""
    return contents_sha256(vars(strategy), excluding=(*model.parameters(), *model.buffers()))


def _tensors(model: Network, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return everything that a step may change, of the network and the optimizer."""
    states = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return [*(tensor.detach() for tensor in (*model.parameters(), *model.buffers())), *states]


def _write(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)
