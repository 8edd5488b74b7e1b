"""Occlusion against the loops that it stands for."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from research.config import UserError
from research.inspection.occlusion import at_pixels, occlude, places

IMAGES = np.float32(load_digits().images[:6, :, :7, None] / 16)


def test_patches_reach_both_ends():
    assert places(8, 3, 2).tolist() == [0, 2, 4, 5]
    assert places(8, 4, 4).tolist() == [0, 4]
    assert places(8, 8, 3).tolist() == [0]
    for patch in (0, 9):
        with pytest.raises(UserError, match=rf"--patch: found {patch} .* expected 1 to 8; nearest"):
            places(8, patch, 1)
    with pytest.raises(UserError, match="--stride: found 0"):
        places(8, 2, 0)


def test_each_place_is_covered_and_scored():
    weights = np.random.default_rng(0).normal(size=IMAGES.shape[1:]).astype(np.float32)

    def score(variables, images):
        return {"sum": (images * variables).sum((1, 2, 3)), "most": images.max((1, 2, 3))}

    watched = []
    options = {"patch": 3, "stride": 2, "fill": 0.25, "watch": lambda x: watched.extend(x) or x}
    found = occlude(score, jnp.asarray(weights), jnp.asarray(IMAGES), **options)
    assert len(watched) == 12
    for i, top in enumerate((0, 2, 4, 5)):
        for j, left in enumerate((0, 2, 4)):
            covered = IMAGES.copy()
            covered[:, top : top + 3, left : left + 3] = 0.25
            expected = (covered * weights).sum((1, 2, 3))
            np.testing.assert_allclose(found["sum"][i, j], expected, rtol=1e-5, atol=1e-5)
            np.testing.assert_array_equal(found["most"][i, j], covered.max((1, 2, 3)))


def test_a_pixel_is_the_mean_of_the_patches_over_it():
    values = np.random.default_rng(1).normal(size=(3, 2, 5))  # rows at 0, 2, 4; columns at 0, 2
    found = at_pixels(values, (7, 5), patch=3, stride=2)
    assert found.shape == (7, 5, 5)
    for y, x in np.ndindex(7, 5):
        over = [
            values[i, j]
            for i, top in enumerate((0, 2, 4))
            for j, left in enumerate((0, 2))
            if top <= y < top + 3 and left <= x < left + 3
        ]
        np.testing.assert_allclose(found[y, x], np.mean(over, 0))
    sparse = at_pixels(np.ones((2, 2)), (6, 6), patch=1, stride=5)
    assert np.isnan(sparse[2, 2]) and sparse[5, 5] == 1
