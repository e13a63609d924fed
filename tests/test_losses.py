"""The shared losses against their formulas, written out term by term in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from clbench.losses import cross_entropy, distillation, group_logits, soften, squared_distance

SIZES = [(5,), (2, 3), (3, 1, 2), (2, 2, 2), (1, 4), (1, 1)]


def logits(n: int, classes: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(n, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def probabilities(row: list[float]) -> list[float]:
    total = sum(math.exp(value) for value in row)
    return [math.exp(value) / total for value in row]


def softened(row: list[float], temperature: float) -> list[float]:
    """Equation 3 of Li & Hoiem, on probabilities: y'_c = y_c^(1/T) / Σ_j y_j^(1/T)."""
    y = probabilities(row)
    total = sum(value ** (1 / temperature) for value in y)
    return [value ** (1 / temperature) / total for value in y]


def pieces(row: Tensor, sizes: tuple[int, ...]) -> list[list[float]]:
    return [piece.tolist() for piece in row.split(list(sizes))]


def paper_distillation(student: Tensor, teacher: Tensor, temperature: float, sizes: tuple[int, ...]) -> float:
    """Equation 2 of Li & Hoiem, -Σ y' log ŷ', summed over the tasks and averaged over the samples."""
    total = 0.0
    for student_row, teacher_row in zip(student, teacher, strict=True):
        for ours, theirs in zip(pieces(student_row, sizes), pieces(teacher_row, sizes), strict=True):
            recorded, answered = softened(theirs, temperature), softened(ours, temperature)
            total -= sum(y * math.log(y_hat) for y, y_hat in zip(recorded, answered, strict=True))
    return total / len(student)


@pytest.mark.parametrize("first", [0, 1, 3])
def test_cross_entropy_is_the_mean_negative_log_probability_among_the_columns_from_first_on(first: int) -> None:
    o, y = logits(4, 5), torch.tensor([3, 4, 3, 4])
    expected = -sum(math.log(probabilities(o[i, first:].tolist())[int(y[i]) - first]) for i in range(4)) / 4
    assert cross_entropy(o, y, first).item() == pytest.approx(expected, rel=1e-12)


def test_cross_entropy_of_the_new_classes_sends_no_gradient_to_the_columns_of_old_ones() -> None:
    o = logits(4, 5).requires_grad_()
    cross_entropy(o, torch.tensor([2, 3, 4, 2]), first=2).backward()
    assert o.grad is not None
    assert (o.grad[:, :2] == 0).all()
    assert (o.grad[:, 2:] != 0).all()


def test_equal_groups_are_the_neighbouring_columns() -> None:
    columns = torch.arange(12.0).reshape(2, 6)
    assert group_logits(columns, (2, 2, 2)).tolist() == [[[0, 1], [2, 3], [4, 5]], [[6, 7], [8, 9], [10, 11]]]


def test_uneven_groups_are_padded_with_what_a_softmax_gives_nothing_to() -> None:
    grouped = group_logits(torch.arange(6.0).reshape(1, 6), (3, 1, 2))
    padding = grouped[0].isclose(torch.tensor(-1e30))
    assert padding.tolist() == [[False, False, False], [False, True, True], [False, False, True]]
    assert grouped[~padding[None]].tolist() == [0, 1, 2, 3, 4, 5]
    assert (torch.softmax(grouped / 0.01, dim=-1)[padding[None]] == 0).all()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("sizes", SIZES)
def test_softened_probabilities_are_those_of_equation_3_in_each_group(
    sizes: tuple[int, ...], temperature: float
) -> None:
    o = logits(3, sum(sizes))
    y = soften(o, temperature, sizes)
    assert y.shape == (3, len(sizes), max(sizes))
    for row, found in zip(o, y, strict=True):
        for group, (piece, size) in enumerate(zip(pieces(row, sizes), sizes, strict=True)):
            assert found[group, :size].tolist() == pytest.approx(softened(piece, temperature), rel=1e-12)
            assert found[group, size:].tolist() == [0.0] * (max(sizes) - size)


def test_without_sizes_all_columns_are_one_group() -> None:
    o, target = logits(3, 5), logits(3, 5, seed=1)
    assert torch.equal(soften(o, 2.0), soften(o, 2.0, (5,)))
    y = soften(target, 2.0)
    assert torch.equal(distillation(o, y, 2.0), distillation(o, y, 2.0, (5,)))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("sizes", SIZES)
def test_distillation_is_equation_2_summed_over_the_groups(sizes: tuple[int, ...], temperature: float) -> None:
    student, teacher = logits(4, sum(sizes)), logits(4, sum(sizes), seed=1)
    found = distillation(student, soften(teacher, temperature, sizes), temperature, sizes)
    assert found.item() == pytest.approx(paper_distillation(student, teacher, temperature, sizes), rel=1e-12)


def test_distillation_at_temperature_1_is_cross_entropy_with_soft_targets() -> None:
    student, targets = logits(4, 5), torch.softmax(logits(4, 5, seed=1), dim=1)
    found = distillation(student, targets[:, None], temperature=1.0)
    assert found.item() == pytest.approx(torch.nn.functional.cross_entropy(student, targets).item(), rel=1e-12)


def test_distillation_from_one_hot_targets_at_temperature_1_is_cross_entropy() -> None:
    student, y = logits(4, 5), torch.tensor([0, 4, 2, 2])
    targets = torch.nn.functional.one_hot(y, 5).double()[:, None]
    assert distillation(student, targets, 1.0).item() == pytest.approx(cross_entropy(student, y).item(), rel=1e-12)


@pytest.mark.parametrize("sizes", SIZES)
def test_the_gradient_of_distillation_is_that_of_finite_differences(sizes: tuple[int, ...]) -> None:
    student, targets = logits(2, sum(sizes)).requires_grad_(), soften(logits(2, sum(sizes), seed=1), 2.0, sizes)
    assert torch.autograd.gradcheck(lambda o: distillation(o, targets, 2.0, sizes), student)


@pytest.mark.parametrize("sizes", SIZES)
def test_the_gradient_of_distillation_has_no_factor_for_the_temperature(sizes: tuple[int, ...]) -> None:
    """∂/∂o_c = (ŷ'_c - y'_c) / (n T)."""
    student, teacher, temperature = logits(3, sum(sizes)).requires_grad_(), logits(3, sum(sizes), seed=1), 2.0
    distillation(student, soften(teacher, temperature, sizes), temperature, sizes).backward()
    assert student.grad is not None
    for row in range(3):
        ours, theirs = pieces(student[row].detach(), sizes), pieces(teacher[row], sizes)
        expected = [
            (y_hat - y) / (3 * temperature)
            for our, their in zip(ours, theirs, strict=True)
            for y_hat, y in zip(softened(our, temperature), softened(their, temperature), strict=True)
        ]
        assert student.grad[row].tolist() == pytest.approx(expected, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("sizes", SIZES)
def test_the_gradient_of_distillation_vanishes_where_the_student_answers_as_the_teacher(sizes: tuple[int, ...]) -> None:
    student = logits(3, sum(sizes)).requires_grad_()
    shifted = student.detach() + 1.5  # the same probabilities
    distillation(student, soften(shifted, 2.0, sizes), 2.0, sizes).backward()
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-15


def tensors(seed: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, dtype=torch.float64, generator=draw) for shape in ((3, 2), (4,), (2, 1, 3, 3))]


def test_squared_distance_is_the_sum_over_all_entries_of_all_tensors() -> None:
    weights, anchors = tensors(0), tensors(1)
    pairs = zip(weights, anchors, strict=True)
    expected = sum((w - a) ** 2 for ws, anchor in pairs for w, a in zip(ws.flatten(), anchor.flatten(), strict=True))
    assert squared_distance(weights, anchors).item() == pytest.approx(float(expected), rel=1e-12)


def test_squared_distance_takes_any_iterables() -> None:
    assert squared_distance(iter([torch.tensor([3.0])]), iter([torch.tensor([1.0])])).item() == 4


@pytest.mark.parametrize("coefficient", [1.0, 0.25, 100.0])
def test_the_gradient_of_squared_distance_is_twice_the_difference_times_what_stands_before_it(
    coefficient: float,
) -> None:
    weights, anchors = [w.requires_grad_() for w in tensors(0)], tensors(1)
    (coefficient * squared_distance(weights, anchors) + sum(w.sum() for w in weights)).backward()
    for w, a in zip(weights, anchors, strict=True):
        assert w.grad is not None
        torch.testing.assert_close(w.grad, 2 * coefficient * (w.detach() - a) + 1, rtol=1e-12, atol=0)


def test_the_gradient_of_squared_distance_is_that_of_finite_differences() -> None:
    anchors = tensors(1)
    assert torch.autograd.gradcheck(lambda *w: squared_distance(w, anchors), [w.requires_grad_() for w in tensors(0)])


def test_squared_distance_and_its_gradient_are_zero_at_the_anchors() -> None:
    weights = [w.requires_grad_() for w in tensors(0)]
    distance = squared_distance(weights, [w.detach().clone() for w in weights])
    distance.backward()
    assert distance.item() == 0
    assert all(w.grad is not None and (w.grad == 0).all() for w in weights)


def test_squared_distance_sends_no_gradient_to_the_anchors() -> None:
    weights, anchors = [w.requires_grad_() for w in tensors(0)], [a.requires_grad_() for a in tensors(1)]
    squared_distance(weights, anchors).backward()
    assert all(a.grad is None for a in anchors)
