"""Parts of real digits: classes, long tails, few examples."""

import itertools
import pickle

import numpy as np
import pytest

from research.config import UserError
from research.data.sources import load_dataset

SPLITS = ("train", "validation", "test")


def counts(split):
    return np.bincount(split.labels(), minlength=split.num_classes)


def test_classes_are_kept_in_every_split_and_called_anew(digits, data_dir):
    part = load_dataset("digits", str(data_dir), classes=(7, 2, 9))
    assert part.num_classes == 3 and part.class_names == ("7", "2", "9")
    for name in SPLITS:
        whole_images, whole_labels = getattr(digits, name).arrays().values()
        kept = np.isin(whole_labels, (7, 2, 9))
        images, labels = getattr(part, name).arrays().values()
        np.testing.assert_array_equal(images, whole_images[kept])
        np.testing.assert_array_equal(np.array([7, 2, 9])[labels], whole_labels[kept])
        assert getattr(part, name)[0]["label"] == labels[0]


def test_classes_divide_the_set(digits, data_dir):
    halves = [load_dataset("digits", str(data_dir), classes=c) for c in (range(5), range(5, 10))]
    for name in SPLITS:
        parts = [getattr(half, name).indices for half in halves]
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), getattr(digits, name).indices)


@pytest.mark.parametrize("classes", [(3,), (3, 3), (3, 10), (-1, 3)])
def test_classes_that_cannot_be(data_dir, classes):
    with pytest.raises(UserError, match=r"data\.classes: found .* 10 classes of digits"):
        load_dataset("digits", str(data_dir), classes=classes)


def test_a_long_tail_is_cuis(digits, data_dir):
    part = load_dataset("digits", str(data_dir), imbalance=0.05)
    for name in SPLITS:
        before, after = counts(getattr(digits, name)), counts(getattr(part, name))
        expected = [max(1, round(n * 0.05 ** (k / 9))) for k, n in enumerate(before)]
        np.testing.assert_array_equal(after, expected)
        assert set(getattr(part, name).indices) < set(getattr(digits, name).indices)


def test_the_rarest_class_keeps_one(data_dir):
    assert counts(load_dataset("digits", str(data_dir), imbalance=1e-6).test)[-1] == 1


@pytest.mark.parametrize("size", [10, 25, 100, 1000, 1257])
def test_few_examples_are_even_over_the_classes(digits, data_dir, size):
    part = load_dataset("digits", str(data_dir), train_size=size)
    assert len(part.train) == size
    if size <= 1000:  # no class has run out
        assert np.ptp(counts(part.train)) <= 1
    for name in ("validation", "test"):
        np.testing.assert_array_equal(getattr(part, name).indices, getattr(digits, name).indices)


def test_smaller_parts_lie_in_larger_and_no_seed_moves_them(data_dir):
    sizes = [load_dataset("digits", str(data_dir), train_size=n).train for n in (20, 50, 400)]
    for small, large in itertools.pairwise(sizes):
        assert set(small.indices) < set(large.indices)
    np.random.seed(3)
    again = load_dataset("digits", str(data_dir), train_size=50).train
    np.testing.assert_array_equal(again.indices, sizes[1].indices)
    # Drawn from the whole split, not from its beginning.
    assert np.median(sizes[1].indices) > 500


@pytest.mark.parametrize("size", [9, 1258])
def test_sizes_that_cannot_be(data_dir, size):
    with pytest.raises(UserError, match=rf"data\.train_size: found {size}, expected 10 .* 1257"):
        load_dataset("digits", str(data_dir), train_size=size)


def test_a_part_pickles(data_dir):
    part = load_dataset("digits", str(data_dir), classes=(3, 5), domain="noisy").train
    again = pickle.loads(pickle.dumps(part))
    np.testing.assert_array_equal(again[5]["image"], part[5]["image"])
    assert again.arrays()["label"].max() == 1
