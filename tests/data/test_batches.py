"""Batches: augmentation image by image, scaling, and epochs that serve every sample once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from clbench.base.recipe import Augmentation
from clbench.data.augmentation import augment
from clbench.data.batches import Images, Scaling, TrainingSet

CPU = torch.device("cpu")
HEIGHT, WIDTH = 4, 6


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(n: int, channels: int = 3, low: int = 0, high: int = 256) -> Tensor:
    """Images whose windows are all different."""
    return torch.randint(low, high, (n, HEIGHT, WIDTH, channels), dtype=torch.uint8, generator=generator(99))


def windows(image: Tensor, crop: int, flip: bool) -> dict[bytes, tuple[int, int, bool]]:
    """Every window of one image, padded with zeros, by its bytes: first row, first column, whether mirrored."""
    height, width, channels = image.shape
    padded = torch.zeros(height + 2 * crop, width + 2 * crop, channels, dtype=image.dtype)
    padded[crop : crop + height, crop : crop + width] = image
    found = {}
    for row in range(2 * crop + 1):
        for column in range(2 * crop + 1):
            window = padded[row : row + height, column : column + width]
            found[window.numpy().tobytes()] = (row, column, False)
            if flip:
                found[window.flip(1).numpy().tobytes()] = (row, column, True)
    return found


# Augmentation


@pytest.mark.parametrize(("crop", "flip"), [(0, True), (1, False), (2, True)])
def test_every_image_becomes_a_window_of_itself_and_every_window_occurs(crop: int, flip: bool) -> None:
    images = noise(1500)
    changed = augment(images, Augmentation(crop=crop, flip=flip), generator())
    assert changed.shape == images.shape
    assert changed.dtype == torch.uint8
    taken = [windows(a, crop, flip)[b.numpy().tobytes()] for a, b in zip(images, changed, strict=True)]
    possible = (2 * crop + 1) ** 2 * (2 if flip else 1)
    counts = [taken.count(window) for window in set(taken)]
    assert len(counts) == possible
    assert max(abs(count - 1500 / possible) for count in counts) < 5 * (1500 / possible) ** 0.5


def test_cropping_with_known_offsets_is_padding_and_slicing(monkeypatch: pytest.MonkeyPatch) -> None:
    images, crop = noise(3), 2
    offsets = torch.tensor([[0, 2, 4], [3, 2, 0]])  # of rows, of columns
    monkeypatch.setattr(torch, "randint", lambda high, size, generator: offsets.view(size))
    changed = augment(images, Augmentation(crop=crop), generator())
    padded = np.pad(images.numpy(), ((0, 0), (crop, crop), (crop, crop), (0, 0)))
    for image, (row, column) in enumerate(offsets.T.tolist()):
        assert np.array_equal(changed[image], padded[image, row : row + HEIGHT, column : column + WIDTH])


def test_brightness_multiplies_an_image_by_one_factor_within_its_range() -> None:
    images = noise(400, low=50, high=100)  # too dark to be clipped
    changed = augment(images, Augmentation(brightness=0.5), generator())
    factors = (changed / images).flatten(1)
    assert changed.dtype == torch.float32
    assert torch.allclose(factors, factors[:, :1].expand_as(factors), rtol=1e-6)
    drawn = factors[:, 0]
    assert 0.5 <= drawn.min() < 0.52
    assert 1.48 < drawn.max() <= 1.5
    assert abs(drawn.mean() - 1) < 0.075  # five standard deviations: 1 / √12 / √400


def test_a_changed_image_with_one_channel_is_given_as_many_as_the_network_takes() -> None:
    images = torch.full((4, 2, 2, 1), 100, dtype=torch.uint8)
    scaling = Scaling("unit", (0.5,) * 3, (0.2,) * 3, torch.device("cpu"), channels=3)
    changed = augment(images, Augmentation(brightness=0.5), generator())
    kept = changed.clone()
    torch.testing.assert_close(scaling(changed), (kept / 255).expand(-1, -1, -1, 3).permute(0, 3, 1, 2))
    assert torch.equal(changed, kept)


def test_brightness_is_clipped_at_white() -> None:
    changed = augment(torch.full((100, 2, 2, 1), 200, dtype=torch.uint8), Augmentation(brightness=0.9), generator())
    assert changed.max() == 255
    assert changed.min() >= 20 - 1e-4
    assert (changed < 255).any()


def test_all_augmentations_together_are_a_window_times_a_factor() -> None:
    images = noise(50, low=20, high=100)
    changed = augment(images, Augmentation(crop=1, flip=True, brightness=0.2), generator())
    plain = augment(images, Augmentation(crop=1, flip=True), generator())
    for image, window in zip(changed, plain, strict=True):
        inside = window > 0
        factors = image[inside] / window[inside]
        assert torch.allclose(factors, factors[0].expand_as(factors), rtol=1e-6)
        assert 0.8 <= factors[0] <= 1.2
        assert (image[~inside] == 0).all()


def test_an_inactive_augmentation_changes_nothing_and_draws_nothing() -> None:
    images, draws = noise(5), generator()
    assert not Augmentation().active
    assert torch.equal(augment(images, Augmentation(), draws), images)
    assert torch.equal(draws.get_state(), generator().get_state())


@pytest.mark.parametrize(
    "how", [Augmentation(crop=2), Augmentation(flip=True), Augmentation(crop=1, flip=True, brightness=0.3)]
)
def test_the_draws_come_from_the_generator_alone(how: Augmentation) -> None:
    images, state = noise(20), torch.get_rng_state()
    one, again, other = (augment(images, how, generator(seed)) for seed in (0, 0, 1))
    assert how.active
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "how", [Augmentation(crop=2), Augmentation(flip=True), Augmentation(crop=1, flip=True, brightness=0.3)]
)
def test_the_images_given_are_left_as_they_were(how: Augmentation) -> None:
    images = noise(20)
    augment(images, how, generator())
    assert torch.equal(images, noise(20))


# Scaling


def test_standardized_pixels_have_the_mean_subtracted_and_are_divided_by_the_deviation() -> None:
    images, mean, std = noise(5), (0.1, 0.4, 0.9), (0.2, 0.05, 1.5)
    found = Scaling("standardized", mean, std, CPU)(images)
    expected = (images.double() / 255 - torch.tensor(mean, dtype=torch.float64)) / torch.tensor(std).double()
    torch.testing.assert_close(found.double(), expected.permute(0, 3, 1, 2), rtol=1e-5, atol=1e-5)


def test_unit_pixels_run_from_0_to_1_whatever_the_statistics() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1)
    found = Scaling("unit", (0.3,), (0.2,), CPU)(images)
    torch.testing.assert_close(found.flatten(), torch.arange(256) / 255, rtol=1e-6, atol=0)


def test_a_constant_channel_is_only_shifted() -> None:
    found = Scaling("standardized", (0.2,), (0.0,), CPU)(torch.full((1, 2, 2, 1), 51, dtype=torch.uint8))
    torch.testing.assert_close(found, torch.zeros(1, 1, 2, 2), rtol=0, atol=1e-6)


@pytest.mark.parametrize("how", [Augmentation(), Augmentation(crop=1, flip=True), Augmentation(brightness=0.3)])
def test_a_scaled_batch_is_float32_in_channels_last_order(how: Augmentation) -> None:
    found = Scaling("unit", (0.0,) * 3, (1.0,) * 3, CPU)(augment(noise(5), how, generator()))
    assert found.dtype == torch.float32
    assert found.shape == (5, 3, HEIGHT, WIDTH)
    assert found.is_contiguous(memory_format=torch.channels_last)


# Epochs


def training_set(count: int = 70) -> TrainingSet:
    """Samples whose pixels, labels and outputs values all tell their row: row r has r, 1000 + r and (r, -r)."""
    pixels = np.arange(100, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    rows = torch.randperm(100, generator=generator(5))[:count].sort().values
    outputs = torch.stack([rows, -rows], dim=1)
    return TrainingSet(Images(pixels, CPU), Scaling("unit", (0.0,), (1.0,), CPU), rows, 1000 + rows, outputs)


@pytest.mark.parametrize("batch_size", [1, 16, 70, 100])
def test_an_epoch_serves_every_sample_once_with_what_belongs_to_it(batch_size: int) -> None:
    samples = training_set()
    served = []
    for x, y, rows, outputs in samples.epoch(batch_size, generator(), Augmentation(), generator()):
        assert outputs is not None
        assert torch.equal(y, 1000 + rows)
        assert torch.equal(outputs, torch.stack([rows, -rows], dim=1))
        torch.testing.assert_close(x, (rows / 255)[:, None, None, None].expand(-1, 1, 2, 2), rtol=1e-6, atol=0)
        served.append(rows)
    whole, left_over = divmod(70, batch_size)
    assert [len(rows) for rows in served] == [batch_size] * whole + [left_over] * (left_over > 0)
    assert torch.equal(torch.cat(served).sort().values, samples.rows)


def order_of(samples: TrainingSet, order: torch.Generator, changes: torch.Generator) -> list[int]:
    batches = samples.epoch(16, order, Augmentation(flip=True), changes)
    return [int(row) for _, _, rows, _ in batches for row in rows]


def test_the_order_of_an_epoch_comes_from_its_generator_alone() -> None:
    samples, draws = training_set(), generator(0)
    first, second = order_of(samples, draws, generator(1)), order_of(samples, draws, generator(1))
    assert first == order_of(samples, generator(0), generator(2))
    assert first != order_of(samples, generator(3), generator(1))
    assert first != second
    assert first != sorted(first)


def test_an_epoch_augments_every_batch_anew() -> None:
    samples, changes = training_set(), generator(1)
    brighter = Augmentation(brightness=0.5)
    first, second = (torch.cat([x for x, *_ in samples.epoch(16, generator(), brighter, changes)]) for _ in range(2))
    assert not torch.allclose(first, second)


def test_cached_features_are_served_in_place_of_the_images() -> None:
    samples = training_set()
    samples.features = 2.0 * samples.rows[:, None]
    for x, _, rows, _ in samples.epoch(16, generator(), Augmentation(), generator()):
        assert torch.equal(x, 2.0 * rows[:, None])


def test_without_teacher_outputs_none_are_served() -> None:
    samples = training_set()
    samples.teacher_outputs = None
    assert all(outputs is None for *_, outputs in samples.epoch(16, generator(), Augmentation(), generator()))


def test_map_images_keeps_the_order_of_the_rows_and_no_gradients() -> None:
    rows = torch.arange(2 * training_set().images.inference_batch + 7) % 100
    samples = training_set()
    samples.rows = rows
    weight = torch.ones((), requires_grad=True)
    answers = samples.map_images(lambda x: x[:, 0, 0, 0] * 255 * weight)
    assert not answers.requires_grad
    torch.testing.assert_close(answers, rows.float(), rtol=1e-6, atol=0)


def test_batches_served_in_order_may_be_changed_in_place() -> None:
    samples, untouched = training_set(), training_set()
    for _, y, rows, outputs in samples.in_order(16):
        assert outputs is not None
        for values in (y, rows, outputs):
            values -= 1
    assert torch.equal(samples.rows, untouched.rows)
    assert torch.equal(samples.labels, untouched.labels)
    assert samples.teacher_outputs is not None and untouched.teacher_outputs is not None
    assert torch.equal(samples.teacher_outputs, untouched.teacher_outputs)


# Reading again


def test_reading_again_serves_every_sample_once_in_an_order_that_its_seed_alone_draws() -> None:
    served = {}
    for seed in (1, 2):
        samples = replace(training_set(), seed=seed)
        once, twice = ([y.tolist() for _, y in samples.shuffled(4)] for _ in range(2))
        assert once == twice
        served[seed] = [label for batch in once for label in batch]
        assert sorted(served[seed]) == sorted(samples.labels.tolist()) != served[seed]
    assert served[1] != served[2]


def test_reading_again_augments_if_it_is_asked_to_and_pairs_images_with_their_labels() -> None:
    images, scaling = Images(noise(20).numpy(), CPU), Scaling("unit", (0.0,) * 3, (1.0,) * 3, CPU)
    rows = torch.arange(20)
    samples = TrainingSet(images, scaling, rows, rows, seed=1, augmentation=Augmentation(flip=True))
    plain, augmented = (list(samples.shuffled(4, augmented=value)) for value in (False, True))
    flips = []
    for (x, y), (changed, same_y) in zip(plain, augmented, strict=True):
        assert torch.equal(y, same_y)
        for image, other, label in zip(x, changed, y, strict=True):
            stored = images.pixels[int(label)].permute(2, 0, 1) / 255
            torch.testing.assert_close(image, stored)
            flips.append(bool(torch.equal(other, image.flip(-1))))
            assert flips[-1] or torch.equal(other, image)
    assert 0 < sum(flips) < len(flips)
