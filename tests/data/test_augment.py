"""Augmentations by name: declared, checked, keyed; and what every one of them promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.config import UserError
from research.data.augment import (
    AUGMENTATIONS,
    NEED_COLOUR,
    Augmentation,
    arguments_of,
    augment,
    check,
    mixes,
    parse,
)
from research.data.augmentations.geometry import flip, pad_crop

FILL = 0.25
CASES = [
    (name, channels)
    for name in AUGMENTATIONS
    for channels in (1, 3)
    if channels == 3 or name not in NEED_COLOUR
]
# What makes each do nothing, where p=0 is not all there is to say.
IDENTITIES = [
    "pad_crop(fraction=0)",
    "rotate(degrees=0)",
    "translate(fraction=0)",
    "scale(factor=1)",
    "random_resized_crop(area=1, ratio=1)",
    "elastic(amplitude=0)",
    "brightness(strength=0)",
    "contrast(strength=0)",
    "saturation(strength=0)",
    "hue(strength=0)",
    "color_jitter(brightness=0, contrast=0, saturation=0, hue=0)",
    "gaussian_noise(std=0)",
    "cutout(size=0)",
    "rand_augment(operations=0)",
    *(f"{name}(p=0)" for name in AUGMENTATIONS),
]


@pytest.fixture(scope="module")
def batches(digits):
    """64 digits in [0, 1], in grey and in colours of their own."""
    grey = np.float32(digits.train.arrays()["image"][:64]) / 16 / 255 * 255 / 16
    grey = grey / grey.max()
    tints = np.random.default_rng(0).uniform(0.2, 1, (64, 1, 1, 3)).astype(np.float32)
    return {1: grey, 3: grey * tints}


@pytest.fixture(scope="module")
def targets(digits):
    return np.eye(10, dtype=np.float32)[digits.train.arrays()["label"][:64]]


jitted = jax.jit(augment, static_argnums=(0, 4))


@pytest.mark.parametrize(("name", "channels"), CASES)
def test_promises_of_all(batches, targets, name, channels):
    images = batches[channels]
    apply = lambda key, images: jitted((name,), key, images, targets, FILL)  # noqa: E731
    found, labels = apply(jax.random.key(0), images)
    assert found.shape == images.shape and found.dtype == jnp.float32
    assert found.min() >= 0 and found.max() <= 1
    # The same key gives the same bits, another one others.
    again, _ = apply(jax.random.key(0), images)
    np.testing.assert_array_equal(found, again)
    others, _ = apply(jax.random.key(1), images)
    assert not np.array_equal(found, others)
    # Each image has its own draw: one digit 64 times comes out in many ways.
    copies = np.repeat(images[:1], 64, axis=0) if name not in ("mixup", "cutmix") else images
    many, _ = apply(jax.random.key(0), copies)
    distinct = len({np.asarray(image).tobytes() for image in many})
    assert distinct == 2 if name.startswith("flip") else distinct > 6
    # An image's result is its own: it depends on the others of the batch only where they mix.
    blank = images.copy()
    blank[32:] = 0
    alone, _ = apply(jax.random.key(0), blank)
    same = slice(1, 32) if mixes((name,)) else slice(32)
    np.testing.assert_allclose(alone[same], found[same], atol=1e-6)
    np.testing.assert_allclose(labels.sum(1), 1, atol=1e-6)
    assert np.array_equal(labels, targets) != mixes((name,))


@pytest.mark.parametrize("declared", IDENTITIES)
def test_a_magnitude_of_nothing_changes_nothing(batches, targets, declared):
    found, labels = jitted((declared,), jax.random.key(0), batches[3], targets, FILL)
    tolerance = 1e-6 if declared.startswith(("random_resized", "scale", "contrast", "color")) else 0
    np.testing.assert_allclose(found, batches[3], atol=tolerance)
    np.testing.assert_array_equal(labels, targets)


@pytest.mark.parametrize("name", ["gaussian_noise", "rotate", "mixup"])
def test_p_is_the_share_of_images(batches, targets, name):
    images = np.tile(batches[3], (8, 1, 1, 1)) + np.linspace(0.01, 0.2, 8)[:, None, None]
    images = np.clip(np.float32(images), 0, 1)
    labels = np.tile(targets, (8, 1))
    found, mixed = jitted((f"{name}(p=0.25)",), jax.random.key(3), images, labels, FILL)
    changed = (found != images).any((1, 2, 3))
    assert 88 < changed.sum() < 168  # 128 ± 4 deviations of a binomial
    assert not (mixed != labels).any(1)[~changed].any()


def test_in_order_each_with_its_own_key(batches):
    key, expected = jax.random.key(4), batches[1]
    for position, function in enumerate((pad_crop, flip)):
        expected = function(jax.random.fold_in(key, position), expected)
    found, nothing = augment(("pad_crop", "flip"), key, batches[1])
    np.testing.assert_array_equal(found, expected)
    assert nothing is None
    np.testing.assert_array_equal(augment((), key, batches[1])[0], batches[1])


def test_parse():
    assert parse("flip") == parse("flip()") == Augmentation("flip")
    # A flip draws by its own p.
    assert parse("flip(p=0.1)") == Augmentation("flip", (("p", 0.1),))
    found = parse("rotate(degrees=30, p=0.5)")
    assert found == Augmentation("rotate", (("degrees", 30),), 0.5)
    assert mixes(("flip", "mixup(alpha=1)")) and not mixes(("flip", "rotate"))
    assert set(arguments_of("elastic")) == {"p", "amplitude", "sigma"}


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ("flipp", "found 'flipp'.*did you mean 'flip'"),
        ("rotate(degree=3)", r"rotate takes no 'degree', only .*degrees \(0 to 180\).*'degrees'"),
        ("rotate(degrees=200)", r"rotate: degrees=200, expected .*degrees \(0 to 180\)"),
        ("rotate(degrees='a')", "rotate: degrees='a', expected"),
        ("rotate(degrees=True)", "rotate: degrees=True, expected"),
        ("rotate(degrees=1e999)", "rotate: degrees=inf, expected"),
        ("rotate(fill=0)", "rotate takes no 'fill'"),
        ("rotate(p=2)", "rotate: p=2"),
        ("rand_augment(operations=1.5)", r"operations \(integer, 0 to 14\)"),
        ("rotate(15)", r"found 'rotate\(15\)', expected a name or a call"),
        ("rotate(degrees=15", "expected a name or a call"),
        ("rotate(**{'degrees': 15})", "expected a name or a call"),
        ("rotate(degrees=open('x'))", "expected a name or a call"),
        ("__import__('os').getcwd()", "expected a name or a call"),
        ("flip; flip", "expected a name or a call"),
        ("", "expected a name or a call"),
        (3, "found 3, expected a name or a call"),
    ],
)
def test_what_cannot_be_declared(declared, words):
    with pytest.raises(UserError, match=rf"data\.augment: .*{words}"):
        check((declared,))


@pytest.mark.parametrize("name", NEED_COLOUR)
def test_colours_of_grey_images(batches, name):
    with pytest.raises(UserError, match=f"found '{name}', which needs images of 3 channels.* 1"):
        augment((name,), jax.random.key(0), batches[1])
