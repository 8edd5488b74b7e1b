"""Moved pixels against NumPy, SciPy and PIL, at float32's 1e-5 or as said.

Angles and the like are drawn again here with the same key: what is tested is what is done by them.
"""

import jax
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from research.data.augmentations import geometry
from research.data.augmentations.geometry import (
    affine,
    elastic,
    flip,
    flip_up_down,
    pad_crop,
    random_resized_crop,
    rotate,
    rotation,
    scale,
    symmetric,
    translate,
)

KEY = jax.random.key(5)
FILL = (0.2, 0.5, 0.8)


@pytest.fixture(scope="module")
def images(digits):
    """Digits in three colours, of 16 × 12 pixels."""
    grey = np.float32(digits.train.arrays()["image"][:256]) / 255
    wide = ndimage.zoom(grey, (1, 2, 1.5, 1), order=1)
    return np.clip(wide * np.float32([1, 0.7, 0.4]), 0, 1)


def moved(image, matrix, offset):
    """SciPy's affine map of an image, blended with FILL at the border."""
    return np.stack(
        [
            ndimage.affine_transform(
                image[..., c], matrix, offset, order=1, mode="grid-constant", cval=FILL[c]
            )
            for c in range(3)
        ],
        -1,
    )


@pytest.mark.parametrize(("function", "axis"), [(flip, 2), (flip_up_down, 1)])
def test_flips_mirror_half_of_the_images(images, function, axis):
    flipped = np.asarray(function(KEY, images))
    same = (flipped == images).all((1, 2, 3))
    mirrored = (flipped == np.flip(images, axis)).all((1, 2, 3))
    assert (same | mirrored).all()
    assert 96 < same.sum() < 160  # 128 ± 4 deviations


@pytest.mark.parametrize(("size", "pad"), [(8, 1), (32, 4)])
def test_pad_crop_is_a_random_window_of_the_padded_image(digits, size, pad):
    images = np.float32(digits.train.arrays()["image"][:256]) / 255 + 0.01
    images = np.tile(images, (1, size // 8, size // 8, 3))
    cropped = np.asarray(pad_crop(KEY, images, FILL))
    padded = np.ones((256, size + 2 * pad, size + 2 * pad, 3), np.float32) * np.float32(FILL)
    padded[:, pad:-pad, pad:-pad] = images
    corners = [(row, column) for row in range(2 * pad + 1) for column in range(2 * pad + 1)]
    windows = np.stack([padded[:, r : r + size, c : c + size] for r, c in corners])
    matches = (windows == cropped).all((2, 3, 4))
    assert matches.any(0).all()
    rows, columns = np.array(corners)[matches.argmax(0)].T
    assert set(rows) == set(columns) == set(range(2 * pad + 1))
    assert not np.array_equal(rows, columns)


def test_rotate(images):
    found = np.asarray(rotate(KEY, images, FILL, degrees=40))
    degrees = 40 * np.asarray(symmetric(KEY, (256,)))
    assert degrees.min() < -35 and degrees.max() > 35
    for i in range(8):
        for c in range(3):
            options = {"reshape": False, "order": 1, "mode": "grid-constant", "cval": FILL[c]}
            expected = ndimage.rotate(images[i, ..., c], degrees[i], **options)
            np.testing.assert_allclose(found[i, ..., c], expected, atol=1e-5)


@pytest.mark.parametrize("degrees", [-90.0, 20.0, 90.0])
def test_rotation_is_counter_clockwise_as_in_pil(images, degrees):
    square = images[:4, 2:14, :, 0]
    angles = np.full(4, np.radians(degrees), np.float32)
    found = np.asarray(affine(square[..., None], rotation(angles), 0))[..., 0]
    for ours, image in zip(found, square, strict=True):
        expected = Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR)
        # PIL interpolates in fixed point, and does not blend at the border.
        inside = (slice(3, -3), slice(3, -3))
        np.testing.assert_allclose(ours[inside], np.asarray(expected)[inside], atol=0.02)


def test_translate(images):
    found = np.asarray(translate(KEY, images, FILL, fraction=0.3))
    shifts = 0.3 * np.array([16, 12]) * np.asarray(symmetric(KEY, (256, 2)))
    for i in range(8):
        for c in range(3):
            options = {"order": 1, "mode": "grid-constant", "cval": FILL[c]}
            expected = ndimage.shift(images[i, ..., c], shifts[i], **options)
            np.testing.assert_allclose(found[i, ..., c], expected, atol=1e-5)


def test_scale(images):
    found = np.asarray(scale(KEY, images, FILL, factor=2))
    zoom = 2.0 ** np.asarray(symmetric(KEY, (256,)))
    assert zoom.min() < 0.6 and zoom.max() > 1.8
    centre = np.array([15, 11]) / 2
    for i in range(8):
        expected = moved(images[i], np.eye(2) / zoom[i], centre - centre / zoom[i])
        np.testing.assert_allclose(found[i], expected, atol=1e-5)


def test_random_resized_crop_is_a_resized_window(images):
    """A ramp shows from where each pixel was taken; PIL resizes the same window alike."""
    rows, columns = np.mgrid[:16, :12].astype(np.float32)
    ramp = np.stack([rows / 15, columns / 11], -1)
    found = np.asarray(random_resized_crop(KEY, np.repeat(ramp[None], 256, 0), area=0.2, ratio=1.5))
    crops = np.asarray(random_resized_crop(KEY, images, area=0.2, ratio=1.5))
    areas, aspects = [], []
    for i in range(256):
        # Away from the border, where coordinates are clipped, the ramp is linear.
        y, x = found[i, 4:12, 6, 0] * 15, found[i, 8, 3:9, 1] * 11
        steps = np.diff(y).mean(), np.diff(x).mean()
        areas.append(steps[0] * steps[1])
        aspects.append(steps[1] / steps[0])
        if i < 8:
            top, left = y[0] + 0.5 - 4.5 * steps[0], x[0] + 0.5 - 3.5 * steps[1]
            window = (left, top, left + 12 * steps[1], top + 16 * steps[0])
            channel = Image.fromarray(images[i, ..., 0])
            expected = channel.transform(
                (12, 16), Image.Transform.EXTENT, window, Image.Resampling.BILINEAR
            )
            inside = (slice(2, -2), slice(2, -2))
            np.testing.assert_allclose(
                crops[i, ..., 0][inside], np.asarray(expected)[inside], atol=0.02
            )
    assert 0.199 < min(areas) < 0.25 and 0.9 < max(areas) < 1.001
    assert 1 / 1.501 < min(aspects) < 0.75 and 1.33 < max(aspects) < 1.501


def test_elastic_is_blurred_noise(images):
    amplitude, sigma = 0.1, 0.1
    found = np.asarray(elastic(KEY, images, FILL, amplitude=amplitude, sigma=sigma))
    noise = np.asarray(symmetric(KEY, (256, 16, 12, 2)), np.float64)
    blurred = ndimage.gaussian_filter(noise, (0, 1.6, 1.6, 0), mode="constant", truncate=4)
    # A blur of width σ in two dimensions leaves 1/(4πσ²) of the variance, 1/3.
    alpha = amplitude * 16 * np.sqrt(3 * 4 * np.pi) * 1.6
    where = np.mgrid[:16, :12] + alpha * np.moveaxis(blurred, -1, 1)
    for i in range(8):
        for c in range(3):
            options = {"order": 1, "mode": "grid-constant", "cval": FILL[c]}
            expected = ndimage.map_coordinates(images[i, ..., c], where[i], **options)
            np.testing.assert_allclose(found[i, ..., c], expected, atol=2e-3)
    inside = (where - np.mgrid[:16, :12])[:, :, 5:-5, 5:-5]
    assert inside.std() == pytest.approx(amplitude * 16, rel=0.1)


def test_what_comes_from_outside_is_filled(images):
    for function in (rotate, translate, scale):
        white = np.ones_like(images)
        found = np.asarray(function(KEY, white, FILL))
        least = found.min((0, 1, 2))
        np.testing.assert_allclose(least, FILL, atol=1e-6)
        assert found.max() == 1


def test_draws_do_not_depend_on_the_precision_of_the_run(images):
    for name in ("rotate", "translate", "scale", "random_resized_crop", "elastic"):
        function = getattr(geometry, name)
        with jax.enable_x64(True):
            double = function(KEY, images[:8])
        assert double.dtype == np.float32
        np.testing.assert_allclose(double, function(KEY, images[:8]), atol=1e-4)
