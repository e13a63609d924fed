"""Orders a dataset's classes and divides them into experiences."""

from __future__ import annotations

import contextlib
import itertools
import operator
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from clbench.errors import UsageError
from clbench.system.suggestions import did_you_mean

_WAYS = "Give a number of equal experiences (5), a list of sizes (4,3,3), or sizes with repeats (50+10x5)."


def parse_split(text: str, classes: int) -> tuple[int, ...]:
    """Return the number of classes of each experience.

    `5` makes five equal experiences; `4,3,3` and `4+3+3` list the sizes; `10x5` is ten experiences of 5 classes, also
    within a list: `50+10x5`. Raises UsageError if they do not add up to `classes`.
    """
    given, text = text, re.sub(r"\s", "", text).replace("×", "x")
    if re.search(r"\d{7}", text):
        raise UsageError(f"invalid split {given[:40]!r}: no dataset has that many classes")
    if re.fullmatch(r"\d+", text):
        count = int(text)
        if count < 1 or classes % count:
            raise UsageError(
                f"{classes} classes do not divide into {text} equal experiences",
                f"List the sizes instead, for example --split {_nearly_equal(classes, max(1, count))}",
            )
        return (classes // count,) * count
    part = r"\d+(x\d+)?"
    if not re.fullmatch(rf"{part}([+,]{part})*,?", text):
        raise UsageError(f"invalid split {given!r}", _WAYS)
    parts = [[int(number) for number in part.split("x")] for part in re.split("[+,]", text.removesuffix(","))]
    repeated = [(1, each[0]) if len(each) == 1 else (each[0], each[1]) for each in parts]
    covered = sum(times * size for times, size in repeated)
    if min(min(pair) for pair in repeated) < 1:
        raise UsageError(f"split {given}: every experience needs at least one class")
    if covered != classes:
        raise UsageError(f"split {given} covers {covered} classes, but the dataset has {classes}")
    return tuple(size for times, size in repeated for _ in range(times))


def as_text(value: object) -> str | None:
    """Return the text of a split or class order given as text, a number, a path, or a list, tuple or array.

    Raises TypeError, with the permitted types, for anything else.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Path):
        return str(value)
    try:
        if isinstance(value, bool):
            raise TypeError
        if isinstance(value, Iterable):
            listed = [each if isinstance(each, str) else str(operator.index(each)) for each in value]
            return ",".join(listed) + ("," if len(listed) == 1 else "")
        return str(operator.index(value))  # type: ignore[arg-type]
    except TypeError:
        raise TypeError("a string, an integer or a list") from None


def _nearly_equal(classes: int, count: int) -> str:
    count = min(count, classes)
    return _repeats([classes // count + (i < classes % count) for i in range(count)])


def split_text(sizes: Sequence[int]) -> str:
    """Return the split as `parse_split` reads it: `5` for five equal experiences, otherwise with repeats: `3+425x2`."""
    return str(len(sizes)) if len(set(sizes)) == 1 else _repeats(sizes)


def describe_split(sizes: Sequence[int]) -> str:
    """Return the split for people to read: `5×2` for five experiences of two classes, `3+425×2`."""
    return _repeats(sizes).replace("x", "×")


def split_by_two(classes: int) -> str:
    """Return the split into experiences of two classes, the first of three if need be; of one each if there are few."""
    size = 2 if classes >= 4 else 1
    return split_text([size + classes % size] + [size] * (classes // size - 1))


def _repeats(sizes: Sequence[int]) -> str:
    if len(sizes) == 1:
        return f"1x{sizes[0]}"  # one number alone is a number of experiences
    runs = [(size, len(list(run))) for size, run in itertools.groupby(sizes)]
    return "+".join(f"{times}x{size}" if times > 1 else f"{size}" for size, times in runs)


def class_order(choice: str, names: Sequence[str], seed: int) -> tuple[int, ...]:
    """Return the dataset's class ids in the order in which they are learned; `names` are those of class 0, 1, …

    `choice` is `seed` (a permutation drawn from `seed`), `natural` (0, 1, 2, …), the names or ids of all classes as a
    list (`3,0,1,2`, `cat,dog`), or a file with one of them per line. Raises UsageError if a list does not name every
    class exactly once.
    """
    if choice == "natural":
        return tuple(range(len(names)))
    if choice == "seed":
        import numpy as np  # here, because listing commands import this module but do not need NumPy

        return tuple(int(c) for c in np.random.default_rng(seed).permutation(len(names)))
    listed = _listed_classes(choice)
    by_name = {name: class_id for class_id, name in enumerate(names)}
    by_id = {str(class_id): class_id for class_id in range(len(names))}
    # Names that are numbers are names, unless the list makes sense only as ids.
    known = max((by_name, by_id), key=lambda known: sum(each in known for each in listed))
    if unknown := [each for each in listed if each not in known]:
        raise UsageError(
            f"class order: no class '{unknown[0][:40]}'{did_you_mean(unknown[0][:40], [*by_name, 'seed', 'natural'])}",
            "Give `seed`, `natural`, the names or the ids of all classes as a list, or a file with one per line.",
        )
    order = tuple(known[each] for each in listed)
    if sorted(order) != list(range(len(names))):
        wrong = [f"{names[each]} is named twice" for each in sorted(set(order)) if order.count(each) > 1]
        wrong += [f"{name} is missing" for each, name in enumerate(names) if each not in order]
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UsageError(
            f"a class order must name each of the {len(names)} classes exactly once: {', '.join(wrong[:3])}{more}"
        )
    return order


def domain_order(choice: str, domains: Sequence[str], names: Sequence[str], seed: int) -> tuple[int, ...]:
    """Return class ids as `class_order` does, if `names` are the classes of one domain after another.

    `seed` permutes whole domains, and a list may name these: `sketch,photo`.
    """
    if choice not in ("natural", "seed"):
        listed = _listed_classes(choice)
        if not set(listed) & set(domains) and len(listed) != len(domains):
            return class_order(choice, names, seed)
    size = len(names) // len(domains)
    return tuple(size * domain + at for domain in class_order(choice, domains, seed) for at in range(size))


def _listed_classes(choice: str) -> list[str]:
    path = Path(choice)
    with contextlib.suppress(OSError, ValueError):  # names too long for a path
        if path.is_file():
            return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [each.strip() for each in choice.strip().removesuffix(",").split(",")]
