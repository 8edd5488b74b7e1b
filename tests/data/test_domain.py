"""Domains of real digits against SciPy and closed forms; both feeds see the same."""

import itertools

import jax
import numpy as np
import pytest
from scipy import ndimage

from research.config import UserError
from research.data.domain import DOMAINS, view
from research.data.feed import make_feed
from research.data.sources import load_dataset


def seen(data_dir, domain):
    return load_dataset("digits", str(data_dir), domain=domain).test.arrays()["image"]


def test_the_original_is_untouched(digits, data_dir):
    np.testing.assert_array_equal(seen(data_dir, "original"), digits.test.arrays()["image"])


def test_inverted_and_faint(digits, data_dir):
    images = digits.test.arrays()["image"].astype(float)
    np.testing.assert_array_equal(seen(data_dir, "inverted"), 255 - images)
    assert np.abs(seen(data_dir, "faint") - (96 + images / 4)).max() <= 0.5


def test_noise_has_its_deviation_and_no_pattern():
    grey = np.full((64, 64, 3), 128, np.uint8)
    noise = view(grey, "noisy", 5).astype(float) - 128
    # Clipping at ±2 deviations: the rest of a normal keeps the deviation 0.959.
    assert noise.std() == pytest.approx(255 / 4 * 0.959, rel=0.03) and abs(noise.mean()) < 2
    other = view(grey, "noisy", 6).astype(float) - 128
    assert abs(np.corrcoef(noise.ravel(), other.ravel())[0, 1]) < 0.05
    np.testing.assert_array_equal(view(grey, "noisy", 5), noise + 128)


@pytest.mark.parametrize(("side", "times"), [(8, 1), (32, 4)])
def test_blurred_is_a_convolution(side, times):
    image = np.random.RandomState(0).randint(0, 256, (side, side, 3)).astype(np.uint8)
    expected = image.astype(float)
    for _ in range(times):
        for axis in (0, 1):
            expected = ndimage.convolve1d(expected, [0.25, 0.5, 0.25], axis, mode="nearest")
    assert np.abs(view(image, "blurred", 0) - expected).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("domain", DOMAINS)
def test_both_feeds_see_it(data_dir, domain):
    split = load_dataset("digits", str(data_dir), domain=domain).train
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    batches = []
    for kind in ("resident", "streaming"):
        feed = make_feed(split, kind=kind, batch_size=16, seed=0, sharding=sharding)
        batches.append([jax.device_get(b) for b in itertools.islice(feed, 2)])
        feed.close()
    jax.tree.map(np.testing.assert_array_equal, *batches)


def test_the_target_is_the_same_set_in_another_domain(digits, data_dir):
    dataset = load_dataset("digits", str(data_dir), train_size=50, target_domain="inverted")
    for name in ("train", "validation", "test"):
        source, target = getattr(dataset, name), getattr(dataset.target, name)
        np.testing.assert_array_equal(target.arrays()["image"], 255 - source.arrays()["image"])
        np.testing.assert_array_equal(target.arrays()["label"], source.arrays()["label"])
    assert digits.target is None and dataset.target.target is None


@pytest.mark.parametrize(("option", "field"), [("domain", "data"), ("target_domain", "transfer")])
def test_unknown_domains(data_dir, option, field):
    with pytest.raises(UserError, match=rf"{field}\.{option}: .*did you mean 'inverted'"):
        load_dataset("digits", str(data_dir), **{option: "invert"})
