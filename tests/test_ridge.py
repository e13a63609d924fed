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
