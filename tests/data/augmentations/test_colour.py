"""Changed values against closed forms, colorsys and PIL; mixtures against their boxes."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from research.data.augmentations import colour, rand_augment
from research.data.augmentations.geometry import symmetric
from research.data.augmentations.mixing import cutmix, mixup

KEY = jax.random.key(6)


@pytest.fixture(scope="module")
def images(digits):
    """Digits in colours that vary within the image."""
    grey = np.float32(digits.train.arrays()["image"][:64]) / 255
    ramp = np.linspace(0.2, 1, 8, dtype=np.float32)
    return np.concatenate(
        [grey, grey * ramp[:, None], np.roll(grey, 1, 1) * ramp[:, None, None]], -1
    )


def drawn(strength, shape=(64, 1, 1, 1)):
    return strength * np.asarray(symmetric(KEY, shape))


def test_brightness(images):
    found = colour.brightness(KEY, images, strength=0.5)
    np.testing.assert_allclose(found, np.clip(images + drawn(0.5), 0, 1), atol=1e-6)


def test_contrast(images):
    found = colour.contrast(KEY, images, strength=0.5)
    mean = images.mean((1, 2), keepdims=True)
    expected = np.clip(mean + (1 + drawn(0.5)) * (images - mean), 0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_saturation(images):
    found = np.asarray(colour.saturation(KEY, images, strength=0.7))
    for image, ours, change in zip(images[:8], found, drawn(0.7).ravel(), strict=False):
        hsv = np.array([colorsys.rgb_to_hsv(*pixel) for pixel in image.reshape(-1, 3)])
        hsv[:, 1] = np.clip(hsv[:, 1] * (1 + change), 0, 1)
        expected = np.array([colorsys.hsv_to_rgb(*pixel) for pixel in hsv])
        np.testing.assert_allclose(ours.reshape(-1, 3), expected, atol=1e-5)


def test_hue(images):
    found = np.asarray(colour.hue(KEY, images, strength=0.5))
    for image, ours, change in zip(images[:8], found, drawn(0.5).ravel(), strict=False):
        hsv = np.array([colorsys.rgb_to_hsv(*pixel) for pixel in image.reshape(-1, 3)])
        hsv[:, 0] = (hsv[:, 0] + change) % 1
        expected = np.array([colorsys.hsv_to_rgb(*pixel) for pixel in hsv])
        np.testing.assert_allclose(ours.reshape(-1, 3), expected, atol=1e-5)


def test_color_jitter_is_the_four_in_a_row(images):
    expected, strengths = (
        images,
        {"brightness": 0.1, "contrast": 0.2, "saturation": 0.3, "hue": 0.4},
    )
    for key, (name, strength) in zip(jax.random.split(KEY, 4), strengths.items(), strict=True):
        expected = getattr(colour, name)(key, expected, strength=strength)
    np.testing.assert_array_equal(colour.color_jitter(KEY, images, **strengths), expected)
    grey = images[..., :1]
    keys = jax.random.split(KEY, 4)
    expected = colour.contrast(keys[1], colour.brightness(keys[0], grey))
    np.testing.assert_array_equal(colour.color_jitter(KEY, grey), expected)


def test_gaussian_noise(images):
    noise = np.asarray(colour.gaussian_noise(KEY, np.full_like(images, 0.5), std=0.1)) - 0.5
    assert noise.mean() == pytest.approx(0, abs=0.1 * 4 / noise.size**0.5)
    assert noise.std() == pytest.approx(0.1, rel=4 / (2 * noise.size) ** 0.5)
    assert np.abs(np.corrcoef(noise.reshape(64, -1)) - np.eye(64)).max() < 0.4


def test_cutout_fills_a_square_around_a_pixel(images):
    images = np.tile(images * 0.5 + 0.3, (8, 1, 1, 1))
    found = np.asarray(colour.cutout(KEY, images, (0.0, 0.1, 0.2), size=0.5))
    cut = (found != images).all(-1)
    np.testing.assert_array_equal(
        found[cut], np.broadcast_to(np.float32([0, 0.1, 0.2]), found[cut].shape)
    )
    np.testing.assert_array_equal(found[~cut], images[~cut])
    boxes = set()
    for mask in cut:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask.sum() == len(rows) * len(columns)
        boxes.add((rows[0], rows[-1] + 1, columns[0], columns[-1] + 1))
    centres = [(max(c - 2, 0), min(c + 2, 8)) for c in range(8)]
    assert boxes == {(*rows, *columns) for rows in centres for columns in centres}


def test_mixup_averages_images_and_labels_alike(images):
    targets = np.eye(64, dtype=np.float32)
    mixed, labels = map(np.asarray, mixup(KEY, images, targets, alpha=1.0))
    own = np.diag(labels)[:, None, None, None]
    np.testing.assert_allclose(mixed, own * images + (1 - own) * np.roll(images, 1, 0), atol=1e-6)
    np.testing.assert_allclose(
        labels[np.arange(64), np.arange(64) - 1], 1 - np.diag(labels), atol=1e-6
    )
    assert 0.35 < own.mean() < 0.65 and own.min() < 0.15 and own.max() > 0.85  # uniform
    strict = np.diag(mixup(KEY, images, targets, alpha=0.05)[1])
    assert ((strict < 0.05) | (strict > 0.95)).mean() > 0.7  # alpha → 0: one or the other


def test_cutmix_labels_are_areas(images):
    images = np.arange(1, 65, dtype=np.float32)[:, None, None, None] / 64 * np.ones((1, 16, 12, 3))
    targets = np.eye(64, dtype=np.float32)
    mixed, labels = map(np.asarray, cutmix(KEY, np.float32(images), targets))
    partner = np.roll(np.float32(images), 1, 0)
    replaced = (mixed == partner).all(-1)
    assert (replaced | (mixed == np.float32(images)).all(-1)).all()
    np.testing.assert_allclose(np.diag(labels), 1 - replaced.mean((1, 2)), atol=1e-6)
    np.testing.assert_allclose(labels.sum(1), 1, atol=1e-6)
    for mask in replaced:
        assert mask.sum() == mask.any(1).sum() * mask.any(0).sum()  # a box
    # Of a uniform share the borders cut some off: E[share] = 1/2 before.
    assert 0.2 < replaced.mean() < 0.5


def as_pil(image):
    return Image.fromarray(np.uint8(np.round(image * 255)))


# Our operation at a magnitude of 21 of 30 and the sign +, PIL's.
PIL = {
    "brightness": lambda image: ImageEnhance.Brightness(image).enhance(1.63),
    "color": lambda image: ImageEnhance.Color(image).enhance(1.63),
    "contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.63),
    "sharpness": lambda image: ImageEnhance.Sharpness(image).enhance(1.63),
    "posterize": lambda image: ImageOps.posterize(image, 5),
    "solarize": lambda image: ImageOps.solarize(image, 77),
    "autocontrast": ImageOps.autocontrast,
    "equalize": ImageOps.equalize,
}


@pytest.mark.parametrize("name", PIL)
def test_operations_of_rand_augment_against_pil(images, name):
    assert ImageFilter.SMOOTH.filterargs[1] == 13
    images = np.round(images * 0.8 * 255) / 255  # whole levels, no stretched channels
    large = jnp.float32(np.tile(images, (1, 4, 4, 1)))  # PIL equalizes from 255 pixels on
    operation = dict(zip(PIL, rand_augment.VALUES, strict=True))[name]
    found = np.asarray(operation(large, 0.7, np.full((64, 1, 1, 1), 0.7, np.float32)))
    for ours, image in zip(found[:8], large, strict=False):
        expected = np.asarray(PIL[name](as_pil(image)), np.float32) / 255
        # PIL rounds to a level what it blends, and what it blends with.
        np.testing.assert_allclose(ours, expected, atol=2.1 / 255)
        if name in ("posterize", "solarize", "equalize"):
            np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_operations_of_rand_augment_that_move(images):
    """Each choice is the map it is named by; shears against PIL, about the centre."""
    large = np.kron(images[:6], np.ones((1, 3, 3, 1), np.float32))
    signed = np.full(6, 0.5, np.float32)
    found = np.asarray(rand_augment.move(large, np.arange(6), signed, 0.0))
    np.testing.assert_allclose(found[0], large[0], atol=1e-6)
    centre, k, far = 11.5, 0.15, 150 / 331 * 24 / 2
    maps = {  # PIL's (a, b, c, d, e, f): x = a·x' + b·y' + c, y = d·x' + e·y' + f
        "shear_x": (1, k, -k * centre - k / 2 + k / 2, 0, 1, 0),
        "shear_y": (1, 0, 0, k, 1, -k * centre),
        "translate_x": (1, 0, -far, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, -far),
    }
    inside = (slice(12, -5), slice(12, -5))
    for name, (a, b, c, d, e, f) in maps.items():
        i = rand_augment.AFFINE.index(name)
        # PIL counts from corners, not centres.
        c, f = c + 0.5 - 0.5 * (a + b) + (b * 0.5 - b * 0.5), f + 0.5 - 0.5 * (d + e)
        for channel in range(3):
            image = Image.fromarray(large[i, ..., channel])
            expected = image.transform(
                (24, 24), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR
            )
            np.testing.assert_allclose(
                found[i, ..., channel][inside], np.asarray(expected)[inside], atol=0.02
            )


def test_rand_augment_draws_every_operation(images):
    """With one operation on copies of one image: the fourteen, some with either sign."""
    copies = jnp.repeat(jnp.kron(images[:1], jnp.ones((1, 2, 2, 1))), 512, 0)
    found = np.asarray(rand_augment.rand_augment(KEY, copies, operations=1, magnitude=9.0))
    distinct = {image.tobytes() for image in found.round(4)}
    assert 19 <= len(distinct) <= 23  # 5 without a sign, 9 with
