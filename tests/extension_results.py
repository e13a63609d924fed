"""Records of extended and first networks whose counts are made up, so that a test knows every number."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image
from stored_runs import HOSTILE

from clbench.base.recipe import Recipe
from clbench.reporting.extension_page import Facts
from clbench.results.environment import Environment
from clbench.results.extension_result import (
    Agreement,
    Candidate,
    ChangedAnswer,
    Confused,
    ExtensionResult,
    ImagesUsed,
    JudgedClass,
    LeftOut,
)
from clbench.results.network_record import ImageShape, InputRecord, LineageStep
from clbench.results.run_spec import NetworkSpec, RecipeSpec, Seeds, StrategySpec

COMMAND = "clbench extend model/ --images photos/new --old-test photos/base-test -s lwf_mc --out model-2/"

FACTS = Facts(
    environment=Environment(
        python="3.11.7",
        system="Linux 6.1",
        processor="A processor",
        cores=2,
        packages={"clbench": "0.2.0", "torch": "2.4.0"},
        finished="2026-01-02T03:04:05+00:00",
    ),
    weights_sha256="e" * 64,
    strategy_doc="Learning without forgetting.\n\nVariant: the one of this test; no other.",
    strategy_formula="CE(new) + λ·KL(old)",
)

Old = Mapping[str, tuple[int, int, int]]
"""Of old classes: test images, and how many of them were right before and are after."""

New = Mapping[str, tuple[int, int]]
"""Of new classes: test images, and how many of them are right."""


def candidate(
    old: Old,
    new: New,
    *,
    strategy: str = "lwf_mc",
    errors: Sequence[tuple[str, str, int]] = (),
    seconds: float = 12.5,
    rehearsed: int = 0,
    **more: Any,
) -> Candidate:
    """A candidate; test images that are wrong are given the classes that `errors` says."""
    classes = [
        *(JudgedClass(name=n, is_new=False, train_images=rehearsed, test_images=t, correct_before=b, correct_after=a)
          for n, (t, b, a) in old.items()),
        *(JudgedClass(name=n, is_new=True, train_images=30, test_images=t, correct_before=None, correct_after=a)
          for n, (t, a) in new.items()),
    ]  # fmt: skip
    right = [(each.name, each.name, each.correct_after) for each in classes if each.correct_after]
    for each in classes:
        assert each.test_images - each.correct_after == sum(n for true, _, n in errors if true == each.name), each.name
    name, _, preset = strategy.partition(":")
    given = {"on_new": None, "on_unlabelled": None, "changed": (), "gradient_steps": 400, "samples_seen": 6000, **more}
    return Candidate(
        strategy=StrategySpec(name=name, preset=preset or None, sha256="5" * 64, config={"alpha": 1.0}),
        classes=tuple(classes),
        confusion=tuple(Confused(true=true, answer=answer, images=n) for true, answer, n in (*right, *errors)),
        seconds=seconds,
        **given,
    )


def result(*candidates: Candidate, **more: Any) -> ExtensionResult:
    """The result of which the first candidate is kept."""
    kept = candidates[0]
    old = tuple(each.name for each in kept.classes if not each.is_new)
    new = tuple(each.name for each in kept.classes if each.is_new)
    images = [
        ImagesUsed(role="new", images=30 * len(new), broken=0, sha256="a" * 64),
        ImagesUsed(
            role="new_test", images=sum(each.test_images for each in kept.new_classes), broken=0, sha256="b" * 64
        ),
    ]
    if kept.old_classes:
        count = sum(each.test_images for each in kept.old_classes)
        images.append(ImagesUsed(role="old_test", images=count, broken=1, sha256="c" * 64))
    lineage = (LineageStep(command="train", id="1" * 64, classes=old, images=30 * len(old), strategy="naive", seed=0),)
    given: dict[str, Any] = {
        "id": "9" * 64,
        "command": "extend" if old else "train",
        "engine": 3,
        "network": NetworkSpec(name="lite0", weights="pretrained", train="head", size=128, package="timm 1.0.9"),
        "input": InputRecord(
            image=ImageShape(height=128, width=128, channels=3),
            padding=0,
            channels=3,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            height=128,
            width=128,
            resizing=None,
        ),
        "parent_sha256": "2" * 64 if old else None,
        "lineage": lineage if old else (),
        "old_classes": old,
        "new_classes": new,
        "held_out": 0.2,
        "images": tuple(images),
        "recipe": RecipeSpec(name="photos", config=Recipe(lr=0.01, epochs=10)),
        "seeds": Seeds(run=0, class_order=1, network=2, training=3),
        "device": "cpu",
        "threads": 2,
        "candidates": candidates,
        "left_out": (),
        "chosen": kept.strategy.selector,
        "rule": "the only one that was asked for.",
        **more,
    }
    return ExtensionResult(**given)


def thumbnails(found: ExtensionResult, side: int = 96) -> dict[tuple[str, str], bytes]:
    """A picture of one colour for each image that changed its answer, PNG and JPEG by turns."""
    made = {}
    for position, each in enumerate(found.kept.changed):
        buffer = io.BytesIO()
        colour = (40 + 37 * position % 200, 90 + 53 * position % 150, 200 - 29 * position % 180)
        Image.new("RGB", (side, side - 20 * (position % 3)), colour).save(buffer, "JPEG" if position % 2 else "PNG")
        made[each.role, each.image] = buffer.getvalue()
    return made


# -- results that a page must do well on ------------------------------------------------------------------------------


def usual() -> ExtensionResult:
    """Three old classes with test images and one without, one new class, three strategies, one left out.

    Old before: (10/10 + 9/10 + 16/20) / 3 = 0.9. After: (6/10 + 9/10 + 18/20) / 3 = 0.8. New: 20/25 = 0.8.
    """
    old: Old = {"cup": (10, 10, 6), "chair": (10, 9, 9), "lamp": (20, 16, 18), "kettle": (0, 0, 0)}
    errors = [("cup", "crab", 3), ("cup", "chair", 1), ("chair", "crab", 1), ("lamp", "cup", 2), ("crab", "lamp", 5)]
    changed = tuple(
        ChangedAnswer(image=f"cup/{n}.jpg", role="old_test", true="cup", before="cup", after="crab") for n in range(3)
    ) + tuple(
        ChangedAnswer(image=f"lamp/{n}.png", role="old_test", true="lamp", before="cup", after="lamp") for n in range(2)
    )
    unlabelled = tuple(
        ChangedAnswer(image=f"more/{n}.png", role="unlabelled", true=None, before="chair", after="crab")
        for n in range(4)
    )
    lwf = candidate(
        old,
        {"crab": (25, 20)},
        errors=errors,
        changed=changed + unlabelled,
        on_new=Agreement(images=25, same=5, among_old=22, taken_by_new=20),
        on_unlabelled=Agreement(images=200, same=190, among_old=196, taken_by_new=8),
    )
    naive = candidate(
        {"cup": (10, 10, 2), "chair": (10, 9, 3), "lamp": (20, 16, 10), "kettle": (0, 0, 0)},
        {"crab": (25, 25)},
        strategy="naive",
        errors=[("cup", "crab", 8), ("chair", "crab", 7), ("lamp", "crab", 10)],
        on_new=Agreement(images=25, same=0, among_old=15, taken_by_new=25),
        on_unlabelled=Agreement(images=200, same=90, among_old=150, taken_by_new=105),
        seconds=9.0,
    )
    slda = candidate(
        {"cup": (10, 10, 7), "chair": (10, 9, 8), "lamp": (20, 16, 15), "kettle": (0, 0, 0)},
        {"crab": (25, 15)},
        strategy="frozen",
        errors=[("cup", "crab", 3), ("chair", "crab", 2), ("lamp", "crab", 5), ("crab", "lamp", 10)],
        seconds=3.0,
    )
    return result(
        lwf,
        naive,
        slda,
        left_out=(LeftOut(strategy="ewc", reason="it needs the Fisher information of old images; give --old-images"),),
        rule="the highest mean of old-class and new-class accuracy.",
    )


def without_old_tests() -> ExtensionResult:
    """Twenty old classes without any test image, two new ones, and unlabelled images."""
    old: Old = {f"old {n}": (0, 0, 0) for n in range(20)}
    new: New = {"crab": (10, 8), "lobster": (10, 9)}
    kept = candidate(
        old,
        new,
        errors=[("crab", "lobster", 1), ("crab", "old 3", 1), ("lobster", "crab", 1)],
        on_new=Agreement(images=20, same=1, among_old=18, taken_by_new=19),
        on_unlabelled=Agreement(images=400, same=380, among_old=390, taken_by_new=12),
        changed=(ChangedAnswer(image="a.jpg", role="unlabelled", true=None, before="old 1", after="crab"),),
    )
    return result(kept, rule="the only one that was asked for.")


def nothing_known() -> ExtensionResult:
    """No test image and no unlabelled one."""
    return result(candidate({"a": (0, 0, 0), "b": (0, 0, 0)}, {"c": (0, 0)}), held_out=0.0)


def many() -> ExtensionResult:
    """A hundred old classes, of which n loses n % 11 of 20 images, and four hundred new ones, one without a test."""
    old: Old = {f"old {n}": (20, 18, 18 - n % 11) for n in range(100)}
    new: New = {f"new {n}": (10, 10 - n % 7) for n in range(399)} | {"untested": (0, 0)}
    errors = [(f"old {n}", f"new {n}", 2 + n % 11) for n in range(100)]
    errors += [(f"new {n}", f"old {n % 100}", n % 7) for n in range(399) if n % 7]
    changed = tuple(
        ChangedAnswer(image=f"old/{n}.jpg", role="old_test", true=f"old {n}", before=f"old {n}", after=f"new {n}")
        for n in range(1, 60)
    )
    return result(candidate(old, new, errors=errors, changed=changed))


def hostile() -> ExtensionResult:
    """Names of classes and of files that no page may take for anything but names."""
    names = [*HOSTILE, "😀👩‍👩‍👧‍👦🏳️‍🌈", "x" * 300, "a name of many words " * 15, "back\u202eslash\n\tand\u0007 control"]
    old: Old = {name: (10, 9, 5 + position % 5) for position, name in enumerate(names)}
    new: New = {f"new {name}": (10, 8) for name in names}
    errors = [(name, f"new {name}", 5 - position % 5) for position, name in enumerate(names)]
    errors += [(f"new {name}", name, 2) for name in names]
    changed = tuple(
        ChangedAnswer(
            image=f"{name.replace('/', '_')}/{name}.jpg", role="old_test", true=name, before=name, after=f"new {name}"
        )
        for name in names
    )
    other = candidate(old, new, strategy=HOSTILE[1], errors=errors)
    return result(
        candidate(old, new, errors=errors, changed=changed),
        other,
        rule=f"the one that {HOSTILE[0]} says.",
        left_out=(LeftOut(strategy=HOSTILE[0], reason=HOSTILE[2] + "y" * 300),),
        notes=(HOSTILE[0], HOSTILE[3]),
    )


def train() -> ExtensionResult:
    """A first network: (9/10 + 7/10 + 10/10) / 3 = 0.8667."""
    new: New = {"cup": (10, 9), "chair": (10, 7), "lamp": (10, 10)}
    errors = [("cup", "lamp", 1), ("chair", "cup", 2), ("chair", "lamp", 1)]
    images = (
        ImagesUsed(role="new", images=90, broken=2, sha256="a" * 64),
        ImagesUsed(role="new_test", images=30, broken=0, sha256="b" * 64),
    )
    return result(candidate({}, new, strategy="naive", errors=errors), images=images)


CASES: dict[str, Callable[[], ExtensionResult]] = {
    made.__name__: made for made in (usual, without_old_tests, nothing_known, many, hostile, train)
}
