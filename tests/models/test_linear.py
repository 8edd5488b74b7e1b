import jax
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from research.config import UserError
from research.models.linear import Linear

SERIES = np.random.default_rng(0).normal(size=(40, 12, 3)).astype(np.float32)  # 8 past, 4 future
PAST, FUTURE = SERIES[:, :8], SERIES[:, 8:]


def test_a_channel_is_forecast_as_by_a_regression_on_its_past():
    rows = [np.swapaxes(part, 1, 2).reshape(-1, part.shape[1]) for part in (PAST, FUTURE)]
    fitted = LinearRegression().fit(*rows)
    params = {"kernel": fitted.coef_.T, "bias": fitted.intercept_}
    found, endpoints = Linear(num_classes=12).apply({"params": {"head": params}}, PAST)
    expected = np.swapaxes(fitted.predict(rows[0]).reshape(40, 3, 4), 1, 2)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert endpoints["logits"] is found


def test_its_sizes():
    shapes = jax.eval_shape(Linear(num_classes=12).init, jax.random.key(0), PAST)
    assert shapes["params"]["head"]["kernel"].shape == (8, 4)
    with pytest.raises(UserError, match="found 13 with inputs of 3 channels"):
        jax.eval_shape(Linear(num_classes=13).init, jax.random.key(0), PAST)
