"""Ridge regression on data that come in parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from clbench.ridge import RidgeRegression, plus_diagonal


@pytest.mark.parametrize("size", [7, 512, 700, 1100])  # below, at and above the size of a block
def test_parts_give_the_regression_on_all_data(size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, size, generator=generator), torch.randn(60, 3, generator=generator)
    regression = RidgeRegression()
    for part in (slice(0, 10), slice(10, 11), slice(11, 60)):
        regression.add(x[part], y[part])
    expected = Ridge(alpha=0.5, fit_intercept=False).fit(x.double().numpy(), y.double().numpy()).coef_.T
    np.testing.assert_allclose(regression.weights(0.5).numpy(), expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(regression.gram.numpy(), x.double().numpy().T @ x.double().numpy(), atol=1e-10)


def test_an_output_that_comes_later_was_0_for_all_samples_before() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    regression = RidgeRegression()
    regression.add(x[:2], torch.tensor([[1.0], [1.0]]))
    regression.add(x[2:], torch.tensor([[0.0, 1.0]]))
    together = RidgeRegression()
    together.add(x, torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    assert torch.equal(regression.weights(0.1), together.weights(0.1))


def test_a_multiple_of_the_identity_is_added_to_a_copy() -> None:
    matrix = torch.ones(2, 2)
    assert plus_diagonal(matrix, 0.5).tolist() == [[1.5, 1.0], [1.0, 1.5]]
    assert matrix.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_fewer_samples_than_columns_and_a_tiny_ridge_still_give_the_least_squares_of_least_length() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = 1000 * torch.randn(20, 300, generator=generator), torch.randn(20, 2, generator=generator)
    regression = RidgeRegression()
    regression.add(x, y)
    weights = regression.weights(1e-9)  # far below the rounding of the Gram matrix, so that Cholesky fails
    expected = torch.linalg.pinv(x.double()) @ y.double()
    np.testing.assert_allclose((x.double() @ weights).numpy(), (x.double() @ expected).numpy(), atol=1e-2)


@pytest.mark.parametrize("size", [1, 7, 700])
def test_a_regression_that_was_packed_in_half_goes_on_to_the_bit(size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, size, generator=generator), torch.randn(40, 3, generator=generator)
    regression = RidgeRegression()
    regression.add(x[:25], y[:25])
    rows, moments = regression.packed()
    assert len(rows) == size * (size + 1) // 2
    again = RidgeRegression.unpacked(rows.clone(), moments.clone())
    assert torch.equal(again.gram, again.gram.T) and torch.equal(again.gram.tril(), regression.gram.tril())
    for each in (regression, again):
        each.add(x[25:], y[25:])
    assert torch.equal(again.weights(0.5), regression.weights(0.5))
    assert torch.equal(again.weights(1e-300), regression.weights(1e-300))  # by eigenvalues, where Cholesky fails


def test_a_regression_without_samples_is_packed_too() -> None:
    again = RidgeRegression.unpacked(*RidgeRegression().packed())
    again.add(torch.eye(2), torch.ones(2, 1))
    assert again.weights(1.0).flatten().tolist() == pytest.approx([0.5, 0.5])


def test_parts_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ValueError, match="4 values of XᵀX for 2 columns"):
        RidgeRegression.unpacked(torch.zeros(4), torch.zeros(2, 1))
