"""The contract of a network as named checks, for `clbench check` of a network's file or a library's network.

They use scikit-learn's handwritten digits, resized if the network asks for it; each says what it found and how to fix
it.
"""

from __future__ import annotations

import copy
import functools
import pickle
import random
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clbench.checks.check import CheckFailed, Result, perform
from clbench.checks.small_scenario import SCENARIO, quiet_run
from clbench.data.datasets import fetch
from clbench.networks.network import Network
from clbench.plugins.module_loading import require_room_for_torch
from clbench.results.stored_run import StoredRun
from clbench.runs.chosen_network import asked, choose_network
from clbench.runs.initial_network import initial_trunk
from clbench.runs.request import Request

_SHAPE = (8, 8, 1)
_CLASSES = 4


@dataclass
class NetworkBench:
    """A network, built for small images, and its runs."""

    selector: str
    """How it was named: by a path, as `timm:NAME` or as `torchvision:NAME`."""

    check: str = ""
    """Name of the current check."""

    errors: dict[str, str] = field(default_factory=dict)
    """For each error message, the check that met it first."""

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="clbench-check-")))

    def __post_init__(self) -> None:
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.scenario, self.data = self.folder / "contract.py", self.folder / "data"
        self.scenario.write_text(SCENARIO)
        fetch("digits", self.data)

    @functools.cached_property
    def spec(self) -> Any:
        """Its spec, with its own weights."""
        return choose_network(self.selector, asked({}, None), _SHAPE, self.data)

    def network(self, seed: int = 0) -> Network:
        """Return a new network with a head for a few classes."""
        spec, file = self.spec
        trunk, features = initial_trunk(spec, _SHAPE, seed, "architecture", self.data, file)
        network = Network(trunk, features)
        network.head.grow(_CLASSES, seed)
        return network

    def images(self, count: int) -> Tensor:
        """Return images of noise in the shape of the network's input."""
        spec, _ = self.spec
        size, channels = spec.size or _SHAPE[0], spec.channels or _SHAPE[2]
        return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(1))

    def runs(self, out: str, jobs: int) -> list[StoredRun]:
        """Return two short runs of plain fine-tuning."""
        return quiet_run(
            Request(
                strategy=["naive"],
                scenario=[str(self.scenario)],
                recipe="few",
                split="2",
                seeds=(0, 1),
                network=self.selector,
                device="cpu",
                threads=1,
                jobs=jobs,
                out=self.folder / out,
                data=self.data,
            )
        )


def one_network_that_is_built(bench: NetworkBench) -> None:
    """The file defines one network, which can be built for small images and whose trunk returns (n, features)."""
    bench.network()


def the_same_seed_gives_the_same_weights(bench: NetworkBench) -> None:
    """Two networks with the same seed are bit-identical, and building one leaves the global random states alone."""
    one = bench.network().state_dict()
    states = random.getstate(), _numpy_state()
    torch.rand(3)
    drawn = torch.get_rng_state()
    other = bench.network().state_dict()
    differing = [name for name, value in one.items() if not torch.equal(value, other[name])]
    if differing:
        raise CheckFailed(
            f"{len(differing)} tensors differ between two networks with the same seed; the first is {differing[0]}",
            "Draw random numbers from torch only, and none while the file is imported.",
        )
    unchanged = (
        random.getstate() == states[0]
        and np.array_equal(_numpy_state(), states[1])
        and torch.equal(torch.get_rng_state(), drawn)
    )
    if not unchanged:
        raise CheckFailed("building it changes a global random state", "Do not seed generators in the network's code.")


def _numpy_state() -> Any:
    return np.random.get_state(legacy=True)[1]  # type: ignore[index]


def features_do_not_depend_on_batch_mates(bench: NetworkBench) -> None:
    """In evaluation mode an image has the same features alone as in a batch."""
    network, x = bench.network().eval(), bench.images(4)
    with torch.no_grad():
        together, alone = network.blocks(x), torch.cat([network.blocks(x[i : i + 1]) for i in range(len(x))])
    difference = float((together - alone).abs().max() / together.abs().max().clamp(min=1e-12))
    if difference > 1e-3:
        raise CheckFailed(
            f"features differ by {100 * difference:.1f} % of the largest when an image is alone in its batch",
            "In evaluation mode normalise by running statistics, not by those of the batch.",
        )


def evaluation_changes_nothing(bench: NetworkBench) -> None:
    """In evaluation mode the same images give the same features again, and no weight or buffer changes."""
    network, x = bench.network().eval(), bench.images(3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        first, second = network.blocks(x), network.blocks(x)
    if not torch.equal(first, second):
        raise CheckFailed(
            "the same images have different features the second time",
            "Use nn.Dropout and the like, which eval() turns off.",
        )
    if changed := [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])]:
        raise CheckFailed(f"evaluation changes {changed[0]}", "Update buffers only if self.training.")


def every_block_can_be_frozen(bench: NetworkBench) -> None:
    """Blocks hold every parameter of the trunk; in a training step, frozen blocks stay unchanged and others learn."""
    network, x = bench.network(), bench.images(4)
    blocks = list(network.blocks)
    held = {id(parameter) for block in blocks for parameter in block.parameters()}
    if loose := [name for name, parameter in network.blocks.named_parameters() if id(parameter) not in held]:
        raise CheckFailed(
            f"{len(loose)} parameters are in no block; the first is {loose[0]}",
            "Have @clbench.network(blocks=…) return modules that hold all parameters.",
        )
    for count in sorted({0, 1, len(blocks) - 1, len(blocks)} & set(range(len(blocks) + 1))):
        network = bench.network()  # a new one, since steps at such a rate may end in NaN
        blocks = list(network.blocks)
        network.train()
        network.freeze(blocks[:count])
        frozen = _values(blocks[:count])
        others = [parameter for block in blocks[count:] for parameter in block.parameters()]
        learning = others or list(network.head.parameters())
        before = [parameter.detach().clone() for parameter in learning]
        _step(network, x)
        if any(not torch.equal(value, frozen[name]) for name, value in _values(blocks[:count]).items()):
            raise CheckFailed(f"frozen blocks change in training (the first {count} are frozen)", _FROZEN)
        if all(map(torch.equal, learning, before)):
            raise CheckFailed(
                f"nothing else learns when the first {count} blocks are frozen" if count else "no block learns",
                "Compute the features without torch.no_grad, and detach nothing on the way.",
            )


_FROZEN = "A block must consist of nn.Modules only, whose buffers change only if self.training."


def _values(modules: list[nn.Module]) -> dict[str, Tensor]:
    return {
        f"{index}.{name}": value.clone()
        for index, module in enumerate(modules)
        for name, value in (*module.named_parameters(), *module.named_buffers())
    }


def _step(network: nn.Module, x: Tensor) -> None:
    optimizer = torch.optim.SGD([one for one in network.parameters() if one.requires_grad], lr=0.1)
    loss = nn.functional.cross_entropy(network(x), torch.arange(len(x)) % _CLASSES)
    loss.backward()
    optimizer.step()
    network.zero_grad()


def copies_and_pickles(bench: NetworkBench) -> None:
    """A deep copy and a pickled copy give the same features, and share no weights with the original."""
    network, x = bench.network().eval(), bench.images(2)
    with torch.no_grad():
        expected = network.blocks(x)
    try:
        copies = {"a deep copy": copy.deepcopy(network), "a pickled copy": pickle.loads(pickle.dumps(network))}
    except Exception as error:  # pickling fails with many kinds of exceptions
        raise CheckFailed(
            f"it cannot be copied or pickled: {type(error).__name__}: {error}", "Keep no lambdas or open files on self."
        ) from error
    for what, other in copies.items():
        with torch.no_grad():
            if not torch.equal(other.blocks(x), expected):
                raise CheckFailed(f"{what} gives different features", "Keep what they depend on in attributes of self.")
        shared = {id(one) for one in network.parameters()} & {id(one) for one in other.parameters()}
        if shared:
            raise CheckFailed(f"{what} shares weights with the original", "Keep no tensors at module level.")


def a_worker_process_gives_the_same_weights(bench: NetworkBench) -> None:
    """It trains on digits, and a run in another process is bit-identical."""
    for here, there in zip(bench.runs("here", jobs=1), bench.runs("there", jobs=2), strict=True):
        for ours, theirs in zip(here.result.experiences, there.result.experiences, strict=True):
            if ours.weights_sha256 != theirs.weights_sha256:
                raise CheckFailed(
                    f"a run in another process has different weights after experience {ours.index}",
                    "Draw random numbers from torch only, and keep no state at module level.",
                )


CHECKS: tuple[Callable[[NetworkBench], None], ...] = (
    one_network_that_is_built,
    the_same_seed_gives_the_same_weights,
    features_do_not_depend_on_batch_mates,
    evaluation_changes_nothing,
    every_block_can_be_frozen,
    copies_and_pickles,
    a_worker_process_gives_the_same_weights,
)


def examine(selector: str) -> Iterator[Result]:
    """Perform every check in order and yield each result as soon as it is known; stop if the network is not built."""
    require_room_for_torch()
    bench = NetworkBench(selector)
    for check in CHECKS:
        yield (result := perform(check, bench))
        if check is one_network_that_is_built and result.status == "failed":
            return
