"""Everything that a strategy carries is hashed and measured, wherever its attributes hold it."""

from __future__ import annotations

import array
import random
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import SmallRun, colours
from torch import Tensor, nn

from clbench.audit.object_graph import carried_bytes, contents_sha256
from clbench.base.batch import Batch
from clbench.base.recipe import Recipe
from clbench.base.strategy import Strategy

MODEL = nn.Linear(2, 2)


class Slotted:
    __slots__ = ("kept",)

    def __init__(self, kept: Any) -> None:
        self.kept = kept


class Inherits(Slotted):
    __slots__ = ("__private", "unset")

    def __init__(self, kept: Any) -> None:
        super().__init__(None)
        self.__private = kept

    def __getattr__(self, name: str) -> Any:
        return name  # as an object that stands for another does


class WithBoth(Slotted):
    """Has a `__dict__` too."""


class Buffer(list[Tensor]):
    def __init__(self, kept: Any) -> None:
        super().__init__()
        self.kept = kept


def in_an_array_of_objects(kept: Any) -> Any:
    holder = np.empty(1, dtype=object)
    holder[0] = kept
    return holder


HOLDERS: dict[str, Callable[[Any], Any]] = {
    "deque": lambda kept: deque([kept], maxlen=3),
    "OrderedDict": lambda kept: OrderedDict(a=kept),
    "defaultdict": lambda kept: defaultdict(list, a=[kept]),
    "key of a dict": lambda kept: {kept: 1},
    "slot": Slotted,
    "private slot of a subclass": Inherits,
    "slot beside attributes": WithBoth,
    "attribute of a list": Buffer,
    "array of objects": in_an_array_of_objects,
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_tensor_counts_and_its_changes_are_seen_whatever_holds_it(holder: str) -> None:
    tensor = torch.zeros(10)
    state = {"kept": HOLDERS[holder](tensor)}
    assert carried_bytes(state, MODEL) == 40
    before = contents_sha256(state)
    assert contents_sha256(state) == before
    tensor[3] = 1
    assert contents_sha256(state) != before


GENERATORS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "torch.Generator": (torch.Generator(), lambda kept: torch.rand(1, generator=kept)),
    "numpy.random.Generator": (np.random.default_rng(0), lambda kept: kept.random()),
    "numpy.random.MT19937": (np.random.MT19937(0), lambda kept: kept.random_raw()),
    "numpy.random.RandomState": (np.random.RandomState(0), lambda kept: kept.rand()),
    "random.Random": (random.Random(0), lambda kept: kept.random()),
}


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_draw_from_a_generator_that_is_kept_is_seen(kind: str) -> None:
    generator, draw = GENERATORS[kind]
    state = {"generator": generator}
    before = contents_sha256(state)
    assert contents_sha256(state) == before
    draw(generator)
    assert contents_sha256(state) != before


def test_the_systems_generator_has_no_state() -> None:
    state = {"generator": random.SystemRandom()}
    before = contents_sha256(state)
    state["generator"].random()
    assert contents_sha256(state) == before


def changed(state: dict[str, Any], change: Callable[[], Any]) -> bool:
    before = contents_sha256(state)
    change()
    return contents_sha256(state) != before


def test_what_is_added_to_a_container_is_seen() -> None:
    queue, counts, numbers = deque([1, 2]), Counter("ab"), array.array("f", [1.0])
    state: dict[str, Any] = {"kept": [queue, counts, numbers, torch.zeros(1)]}
    assert changed(state, lambda: queue.append(3))
    assert changed(state, lambda: queue.rotate())
    assert changed(state, lambda: counts.update("a"))
    assert changed(state, lambda: numbers.append(2.0))


def test_numbers_of_numpy_are_seen() -> None:
    state: dict[str, Any] = {"mean": np.float32(1), "kept": torch.zeros(1)}
    assert changed(state, lambda: state.update(mean=np.float32(2)))
    state["count"] = np.int64(1)
    assert changed(state, lambda: state.update(count=np.int64(2)))


def test_a_path_that_is_used_stays_the_same() -> None:
    path = Path("a", "b")
    assert not changed({"path": path}, lambda: (str(path), hash(path), path.parts))


def test_numbers_of_an_array_count_as_they_are_stored() -> None:
    assert carried_bytes({"kept": array.array("d", [1.0, 2.0]), "bytes": b"123"}, MODEL) == 2 * 8 + 3


def test_a_batch_that_is_kept_counts_without_what_trains_the_strategy() -> None:
    batches: list[Batch] = []

    class Keeps(Strategy[None]):
        def loss(self, batch: Batch) -> Tensor:
            batches.append(batch)
            return batch.cross_entropy()

    run = SmallRun(Keeps(None), Recipe(network="mlp", lr=0.1, batch_size=16), colours(), (2, 3)).learn(1)
    kept = batches[-1]
    own = [kept.x, kept.y, kept.index, kept.logits]
    assert carried_bytes({"kept": kept}, run.trainer.model) == sum(tensor.untyped_storage().nbytes() for tensor in own)
