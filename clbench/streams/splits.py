"""How a dataset's classes are ordered and divided into experiences."""

from __future__ import annotations

import re
from collections.abc import Sequence

from clbench.errors import UsageError


def parse_split(text: str, classes: int) -> tuple[int, ...]:
    """Return the number of classes of each experience.

    `5` makes five equal experiences, `50+10x5` a base of 50 classes followed by ten experiences of 5, and
    `4,3,3` lists the sizes. Raises UsageError if they do not add up to `classes`.
    """
    text = text.replace(" ", "")
    if re.search(r"\d{7}", text):
        raise UsageError(f"invalid split {text[:40]!r}: no dataset has that many classes")
    if re.fullmatch(r"\d+", text):
        count = int(text)
        if count < 1 or classes % count:
            raise UsageError(
                f"{classes} classes do not divide into {text} equal experiences",
                f"List the sizes instead, for example --split {_nearly_equal(classes, max(1, count))}",
            )
        return (classes // count,) * count
    if match := re.fullmatch(r"(\d+)\+(\d+)[x×](\d+)", text):
        base, steps, size = map(int, match.groups())
        if base + steps * size != classes:
            raise UsageError(f"split {text} covers {base + steps * size} classes, but the dataset has {classes}")
        sizes = (base, *(size,) * steps)
    elif re.fullmatch(r"\d+(,\d+)*,?", text):
        sizes = tuple(int(part) for part in text.split(",") if part)
    else:
        raise UsageError(
            f"invalid split {text!r}",
            "Give a number of equal experiences (5), a base and steps (50+10x5), or a list of sizes (4,3,3).",
        )
    if min(sizes) < 1:
        raise UsageError(f"split {text}: every experience needs at least one class")
    if sum(sizes) != classes:
        raise UsageError(f"split {text} covers {sum(sizes)} classes, but the dataset has {classes}")
    return sizes


def _nearly_equal(classes: int, count: int) -> str:
    count = min(count, classes)
    return ",".join(str(classes // count + (i < classes % count)) for i in range(count))


def describe_split(sizes: Sequence[int]) -> str:
    """Return the split in short notation: `5×2` for five experiences of two classes, else `4+3+3`."""
    if len(set(sizes)) == 1:
        return f"{len(sizes)}×{sizes[0]}"
    if len(sizes) > 2 and len(set(sizes[1:])) == 1:
        return f"{sizes[0]}+{len(sizes) - 1}×{sizes[1]}"
    return "+".join(str(size) for size in sizes)


def class_order(choice: str, classes: int, seed: int) -> tuple[int, ...]:
    """Return the dataset's class ids in the order in which they are learned.

    `choice` is `seed` (a permutation drawn from `seed`), `natural` (0, 1, 2, …) or the ids as a list (`3,0,1,2`).
    Raises UsageError if a list does not name every class exactly once.
    """
    if choice == "natural":
        return tuple(range(classes))
    if choice == "seed":
        import numpy as np  # here, because listing commands import this module but do not need NumPy

        return tuple(int(c) for c in np.random.default_rng(seed).permutation(classes))
    choice = re.sub(r"\s*,\s*", ",", choice.strip())
    if not re.fullmatch(r"\d{1,6}(,\d{1,6})*", choice):
        raise UsageError(f"invalid class order {choice!r}", "Give `seed`, `natural`, or a list of class ids: 3,0,1,2")
    order = tuple(int(part) for part in choice.split(","))
    if sorted(order) != list(range(classes)):
        raise UsageError(f"class order {choice} does not name each of the classes 0 to {classes - 1} exactly once")
    return order
