"""Kinds of streams: which sample is in which experience, by hand, in general, and as by Avalanche's generators."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clbench.errors import UsageError
from clbench.streams.kinds import KINDS, described, name_of, stream_kind
from clbench.streams.stream_kind import StreamKind

BALANCED = torch.arange(10).repeat_interleave(100)
"""A hundred samples of each of ten classes: class c in rows 100·c to 100·c + 99."""

FIVE = (2, 2, 2, 2, 2)


def counts(kind: StreamKind, positions: torch.Tensor = BALANCED, split: tuple[int, ...] = FIVE) -> list[Counter[int]]:
    """Return how many samples of each class each experience has."""
    return [Counter(positions[rows].tolist()) for rows in kind.rows(positions, split, 0)]


def all_rows(kind: StreamKind, seed: int = 0) -> Counter[int]:
    """Return how often each row comes."""
    return Counter(row for rows in kind.rows(BALANCED, FIVE, seed) for row in rows.tolist())


def test_every_kind_is_found_by_its_name_and_says_what_it_and_its_options_are() -> None:
    for name, cls in KINDS.items():
        assert name_of(stream_kind(name.replace("_", "-"), {})) == name
        known = described(name)
        assert known["doc"]
        assert all(option["doc"] for option in known["options"])
        assert {option["name"] for option in known["options"]} == {field.name for field in fields(cast(Any, cls))}


@pytest.mark.parametrize(
    ("name", "option", "type_"),
    [
        ("long_tailed", "order", "Literal['ordered', 'shuffled']"),
        ("long_tailed", "imbalance", "float"),
        ("rotated", "angles", "tuple[int, ...]"),
        ("online", "evaluate_every", "int"),
    ],
)
def test_the_type_of_an_option_is_whole(name: str, option: str, type_: str) -> None:
    (found,) = [each for each in described(name)["options"] if each["name"] == option]
    assert found["type"] == type_


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("blury", {}, "did you mean 'blurry'"),
        ("online", {"batch": 3}, "stream has no option 'batch'"),
        ("blurry", {"minor": 0}, "stream.minor must be greater than 0"),
        ("long_tailed", {"imbalance": "1"}, "stream.imbalance must be less than 1"),
        ("repetition", {"experiences": "x"}, "stream.experiences must be a valid integer"),
        ("permuted", {"experiences": 10_001}, "stream.experiences must be less than or equal to 10000"),
    ],
)
def test_a_name_or_an_option_that_there_is_not_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        stream_kind(name, options)
    assert message in refused.value.message


def test_so_many_samples_of_each_experience_are_drawn_and_no_more() -> None:
    kind = stream_kind("class", {"samples": 30})
    whole = kind.rows(BALANCED, FIVE, 0)
    drawn = kind.sampled(whole, BALANCED, 0)
    assert [len(rows) for rows in drawn] == [30] * 5
    assert all(set(some.tolist()) < set(rows.tolist()) for some, rows in zip(drawn, whole, strict=True))
    assert drawn[0].tolist() == sorted(set(drawn[0].tolist()))
    assert [rows.tolist() for rows in kind.sampled(whole, BALANCED, 0)] == [rows.tolist() for rows in drawn]
    assert drawn[0].tolist() != kind.sampled(whole, BALANCED, 1)[0].tolist()
    assert kind.sampled((torch.arange(7),), BALANCED, 0)[0].tolist() == list(range(7))  # fewer than that


def test_of_each_new_class_a_sample_is_drawn_and_a_draw_that_has_one_of_each_stays_as_it_is() -> None:
    rare = torch.tensor([0] * 97 + [1, 2, 3])
    for seed in range(20):
        (drawn,) = stream_kind("class", {"samples": 4}).sampled((torch.arange(100),), rare, seed)
        assert rare[drawn].tolist() == [0, 1, 2, 3]
        (plain,) = stream_kind("class", {"samples": 60}).sampled((torch.arange(100),), torch.zeros(100), seed)
        (drawn,) = stream_kind("class", {"samples": 60}).sampled((torch.arange(100),), rare, seed)
        missing = {1, 2, 3} - set(rare[plain].tolist())
        assert len(drawn) == 60 and set(rare[drawn].tolist()) == {0, 1, 2, 3}
        assert len(set(plain.tolist()) - set(drawn.tolist())) == len(missing)


def test_a_class_that_came_before_need_not_be_drawn_again() -> None:
    both = (torch.arange(0, 4), torch.arange(0, 8))
    classes = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    for seed in range(20):
        first, second = stream_kind("class", {"samples": 2}).sampled(both, classes, seed)
        assert set(classes[first].tolist()) == {0, 1} and set(classes[second].tolist()) == {2, 3}


# -- blurry -----------------------------------------------------------------------------------------------------------


def test_half_of_the_classes_are_disjoint_and_a_tenth_of_the_others_is_spread_evenly() -> None:
    # Of the classes up to an experience half are disjoint, rounded to even: 1, 2, 3, 4, 5. Experience 0 has class 0;
    # classes 1 to 5 are blurry, at home in experiences 0 to 4; classes 6 to 9 are disjoint ones of experiences 1 to 4.
    # Ten of the hundred samples of a blurry class go to the four others, three to the first two and two to the rest.
    kind = stream_kind("blurry", {})
    assert kind.new_classes(FIVE) == (6, 1, 1, 1, 1)
    assert counts(kind) == [
        Counter({0: 100, 1: 90, 2: 3, 3: 3, 4: 3, 5: 3}),
        Counter({6: 100, 1: 3, 2: 90, 3: 3, 4: 3, 5: 3}),
        Counter({7: 100, 1: 3, 2: 3, 3: 90, 4: 2, 5: 2}),
        Counter({8: 100, 1: 2, 2: 2, 3: 2, 4: 90, 5: 2}),
        Counter({9: 100, 1: 2, 2: 2, 3: 2, 4: 2, 5: 90}),
    ]


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 1), st.floats(0.05, 0.95), st.integers(0, 2**32 - 1))
def test_a_blurry_stream_has_every_sample_exactly_once(disjoint: float, minor: float, seed: int) -> None:
    kind = stream_kind("blurry", {"disjoint": disjoint, "minor": minor})
    assert all_rows(kind, seed) == Counter(range(1000))
    come = 0
    for new, rows in zip(kind.new_classes(FIVE), kind.rows(BALANCED, FIVE, seed), strict=True):
        come += new
        assert int(BALANCED[rows].max()) < come  # no class comes before it is counted among those that came
    assert come == 10


def test_too_few_samples_for_a_blurry_class_to_come_in_every_experience_are_refused() -> None:
    with pytest.raises(UsageError, match="a class of 100 images has 3 for the 4 experiences besides its own"):
        stream_kind("blurry", {"minor": 0.03}).check_images([100] * 10, FIVE)
    # Class 0 is disjoint, and may have as few as it likes.
    stream_kind("blurry", {}).check_images([1] + [100] * 9, FIVE)
    with pytest.raises(UsageError, match="at least two experiences"):
        stream_kind("blurry", {}).new_classes((10,))


def test_more_experiences_than_there_are_images_for_are_refused() -> None:
    repeating, more = (stream_kind(name, {"experiences": 101}) for name in ("repetition", "data_incremental"))
    with pytest.raises(UsageError, match=r"stream\.experiences = 101 is more than the 100 training images"):
        repeating.check_images([50, 50], (2,))
    repeating.check_images([50, 51], (2,))
    with pytest.raises(UsageError, match=r"101 is more than any class has training images \(100 at most\)"):
        more.check_images([100, 100], (2,))
    more.check_images([101, 1], (2,))


# -- repetition -------------------------------------------------------------------------------------------------------


def test_classes_come_for_the_first_time_as_the_geometric_distribution_says() -> None:
    # In proportion to 8, 4, 2 and 1: up to each experience 5.33, 8, 9.33 and 10, rounded up.
    assert stream_kind("repetition", {"experiences": 4, "first": 0.5}).new_classes(FIVE) == (6, 2, 2, 0)
    assert stream_kind("repetition", {"experiences": 3, "first": 1}).new_classes(FIVE) == (10, 0, 0)
    # Alike, if the parameter is next to nothing.
    assert stream_kind("repetition", {"experiences": 5, "first": 1e-17}).new_classes(FIVE) == (2, 2, 2, 2, 2)


def test_no_class_returns_with_probability_0_and_all_do_with_1() -> None:
    # In proportion to 4, 2 and 1: up to each experience 5.71, 8.57 and 10, rounded up.
    never = counts(stream_kind("repetition", {"experiences": 3, "first": 0.5, "repeat": 0}))
    assert [sorted(each) for each in never] == [list(range(6)), [6, 7, 8], [9]]
    always = counts(stream_kind("repetition", {"experiences": 3, "first": 0.5, "repeat": 1}))
    assert [sorted(each) for each in always] == [list(range(6)), list(range(9)), list(range(10))]
    # 1000 samples over 3 experiences: 333 each, divided equally among the classes that are present.
    assert [set(each.values()) for each in always] == [{55}, {37}, {33}]


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 30), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_a_sample_returns_only_after_all_others_of_its_class_have_come(size: int, repeat: float, seed: int) -> None:
    kind = stream_kind("repetition", {"experiences": size, "repeat": repeat})
    came: Counter[int] = Counter()
    for rows in kind.rows(BALANCED, FIVE, seed):
        assert len(rows) == len(rows.unique()) > 0
        came.update(rows.tolist())
        for position in BALANCED[rows].unique().tolist():
            times = [came[row] for row in range(100 * position, 100 * position + 100)]
            assert max(times) - min(times) <= 1


# -- data-incremental, long-tailed, noisy -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 7])
def test_data_incremental_experiences_are_those_of_avalanches_new_instances(seed: int) -> None:
    from clbench.avalanche.quiet_import import importing_avalanche

    with importing_avalanche():
        from avalanche.benchmarks.scenarios.supervised import new_instances_benchmark
        from avalanche.benchmarks.utils.classification_dataset import _make_taskaware_classification_dataset

    drawing = np.random.default_rng(0)
    labels = drawing.integers(0, 7, 333)
    images = torch.zeros(333, 1)
    data = _make_taskaware_classification_dataset(
        torch.utils.data.TensorDataset(images, torch.from_numpy(labels)), targets=labels.tolist()
    )
    state = torch.get_rng_state()
    theirs = new_instances_benchmark(data, data, 5, seed=seed, balance_experiences=True)
    torch.set_rng_state(state)
    ours = stream_kind("data_incremental", {}).rows(torch.from_numpy(labels), (7,), seed)
    for rows, experience in zip(ours, theirs.train_stream, strict=True):
        assert rows.tolist() == experience.dataset._flat_data._indices


def test_data_incremental_experiences_have_every_sample_once_and_all_classes_alike() -> None:
    kind = stream_kind("data_incremental", {"experiences": 4})
    assert kind.new_classes((10,)) == (10, 0, 0, 0)
    assert all_rows(kind) == Counter(range(1000))
    assert counts(kind) == [Counter(dict.fromkeys(range(10), 25))] * 4


def test_the_images_of_a_long_tail_fall_exponentially() -> None:
    kind = stream_kind("long_tailed", {"imbalance": 0.01, "order": "ordered"})
    # 100·0.01^(k/9), rounded down: 100, 59.9, 35.9, 21.5, 12.9, 7.7, 4.6, 2.8, 1.7, 1.
    assert counts(kind) == [
        Counter({0: 100, 1: 59}),
        Counter({2: 35, 3: 21}),
        Counter({4: 12, 5: 7}),
        Counter({6: 4, 7: 2}),
        Counter({8: 1, 9: 1}),
    ]


def test_a_shuffled_long_tail_has_the_same_numbers_in_another_order_drawn_from_the_seed() -> None:
    kind = stream_kind("long_tailed", {"imbalance": 0.01})
    numbers = [count for each in counts(kind) for count in each.values()]
    assert sorted(numbers, reverse=True) == [100, 59, 35, 21, 12, 7, 4, 2, 1, 1]
    assert numbers != sorted(numbers, reverse=True)
    assert all_rows(kind, 0) == all_rows(kind, 0) != all_rows(kind, 1)
    assert max(all_rows(kind).values()) == 1


def test_a_share_of_the_labels_of_each_class_is_one_of_the_experiences_others() -> None:
    kind = stream_kind("noisy_labels", {"share": 0.3})
    split = (2, 3, 4, 1)
    noisy = kind.labels(BALANCED, split, 0)
    of = torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 2, 3])
    assert torch.equal(of[noisy], of[BALANCED])
    wrong = [int((noisy[position == BALANCED] != position).sum()) for position in range(10)]
    assert wrong == [30] * 9 + [0]  # the last class is alone in its experience
    told = Counter(noisy[BALANCED == 5].tolist())
    assert set(told) == {5, 6, 7, 8}
    assert torch.equal(BALANCED, torch.arange(10).repeat_interleave(100))


# -- permuted and rotated ---------------------------------------------------------------------------------------------


def mapped(images: np.ndarray[Any, Any], kind: StreamKind, seed: int) -> torch.Tensor:
    """Return the images in every domain, (domains, n, height, width)."""
    from clbench.data.batches import MappedImages

    maps = kind.pixel_maps(*images.shape[1:], seed)
    assert maps is not None
    read = MappedImages(images[..., None], torch.device("cpu"), maps).read(torch.arange(len(images) * len(maps)))
    return read.view(len(maps), *images.shape)


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize(("name", "theirs"), [("permuted", "PermutedMNIST"), ("rotated", "RotatedMNIST")])
def test_domains_are_those_of_avalanche_for_the_same_seed(
    name: str, theirs: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clbench.avalanche.quiet_import import importing_avalanche

    with importing_avalanche():
        from avalanche.benchmarks.classic import cmnist

    images = np.random.default_rng(1).integers(0, 256, (6, 28, 28), dtype=np.uint8)

    class Pictures(torch.utils.data.Dataset[Any]):
        targets = (0, 1, 2, 3, 4, 5)

        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            return Image.fromarray(images[index]), index

    monkeypatch.setattr(cmnist, "get_mnist_dataset", lambda root: (Pictures(), Pictures()))
    transform = {"train_transform": np.asarray, "eval_transform": np.asarray}
    benchmark = getattr(cmnist, theirs)(4, seed=seed, **transform)
    ours = mapped(images, stream_kind(name, {"experiences": 4}), seed).numpy()
    for domain, experience in enumerate(benchmark.train_stream):
        for index in range(6):
            assert (np.asarray(experience.dataset[index][0]) == ours[domain, index]).all()


def test_rotation_by_a_right_angle_by_hand() -> None:
    image = np.array([[[1, 2], [3, 4]]], dtype=np.uint8)
    kind = stream_kind("rotated", {"angles": "0,90,180"})
    assert kind.new_classes((10,)) == (10, 10, 10)
    assert kind.domains(0) == ("0°", "90°", "180°")
    # Counter-clockwise: what was on the right comes to the top.
    assert mapped(image, kind, 0)[:, 0].tolist() == [[[1, 2], [3, 4]], [[2, 4], [1, 3]], [[4, 3], [2, 1]]]


def test_angles_are_drawn_between_the_smallest_and_the_largest() -> None:
    bounds = {"smallest_angle": 44, "largest_angle": 46}
    drawn = {stream_kind("rotated", {"experiences": 3, **bounds}).domains(seed) for seed in range(50)}
    assert {tuple(sorted(each)) for each in drawn} == {("44°", "45°", "46°")} and len(drawn) == 6
    with pytest.raises(UsageError, match="fewer whole angles from 44 to 46 degrees than the 4 experiences"):
        stream_kind("rotated", {"experiences": 4, **bounds}).new_classes((10,))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"angles": "0,360"}, "two or more different angles"),
        ({"angles": "45"}, "two or more different angles"),
        ({"angles": "0,45", "experiences": 7}, "stream.experiences = 7 has no effect: there are 2 stream.angles"),
        ({"angles": "0,45", "smallest_angle": 0}, "stream.smallest_angle has no effect: none is drawn"),
        ({"smallest_angle": 90, "largest_angle": 45}, "stream.smallest_angle = 90 is larger than stream.largest_an"),
    ],
)
def test_angles_that_make_no_stream_of_domains_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        stream_kind("rotated", options).new_classes((10,))
    assert message in refused.value.message


def test_batches_of_several_domains_are_what_each_image_is_by_itself() -> None:
    from clbench.data.batches import MappedImages

    images = np.random.default_rng(2).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    maps = stream_kind("rotated", {"angles": "0,45"}).pixel_maps(8, 8, 0)
    assert maps is not None
    source = MappedImages(images, torch.device("cpu"), maps)
    rows = torch.tensor([9, 0, 3, 7, 2])
    alone = torch.cat([source.read(row[None]) for row in rows])
    assert torch.equal(source.read(rows), alone)
    assert torch.equal(alone[1], torch.from_numpy(images[0]))
    assert int((alone[0] == 0).all(dim=-1).sum()) > 0  # corners are black
