"""Datasets by name: real digits against scikit-learn, the carving of splits, labels, imports."""

import dataclasses
import math
import os
import pickle
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from research.config import UserError
from research.data.sources import carve, load_dataset


def test_digits_are_scikit_learns(digits):
    reference = load_digits()
    images, labels = np.zeros((1797, 8, 8)), np.full(1797, -1)
    for split in (digits.train, digits.validation, digits.test):
        decoded, found = split.arrays().values()
        assert decoded.dtype == np.uint8 and found.dtype == np.int32
        images[split.indices], labels[split.indices] = decoded[..., 0], found
    np.testing.assert_array_equal(labels, reference.target)
    assert np.abs(images - reference.images * 255 / 16).max() <= 0.5
    assert (digits.image_shape, digits.num_classes) == ((8, 8, 1), 10)
    assert digits.class_names == tuple("0123456789")
    assert [len(s) for s in (digits.train, digits.validation, digits.test)] == [1257, 180, 360]


def test_examples_equal_arrays(digits):
    images, labels = digits.test.arrays().values()
    assert len(digits.test) == 360 and digits.test.nbytes == images.nbytes + labels.nbytes
    for i in (0, 7, 359):
        example = digits.test[i]
        np.testing.assert_array_equal(example["image"], images[i])
        assert example["label"] == labels[i] and isinstance(example["label"], int)


def test_splits_are_the_same_whatever_the_seed(digits, data_dir):
    np.random.seed(7)
    again = load_dataset("digits", str(data_dir))
    for split in ("train", "validation", "test"):
        indices = getattr(again, split).indices
        np.testing.assert_array_equal(indices, getattr(digits, split).indices)


@pytest.mark.parametrize("size", [10, 100, 1797, 5003])
@pytest.mark.parametrize("fractions", [("0.1", "0.2"), ("0.07", "0.29"), ("0", "0.5")])
def test_carving_is_disjoint_covering_and_of_exact_size(size, fractions):
    parts = carve(size, *map(float, fractions))
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(size))
    expected = [math.ceil(Fraction(fraction) * size) for fraction in fractions]
    assert [len(part) for part in parts[1:]] == expected


def test_carving_is_random():
    """Every fifth of the range gives its share to the test split, unlike a carved-off end."""
    counts = np.histogram(carve(5000, 0.1, 0.2)[2], bins=5, range=(0, 5000))[0]
    assert counts.sum() == 1000 and np.abs(counts - 200).max() < 50


@pytest.mark.parametrize(
    ("fractions", "field"),
    [((-0.1, 0.2), "data.validation"), ((0.1, 1.0), "data.test"), ((0.5, 0.5), "data.validation")],
)
def test_fractions_that_leave_nothing(fractions, field):
    with pytest.raises(UserError, match=field):
        carve(100, *fractions)


def test_a_split_pickles_without_what_it_remembers(digits):
    digits.train.arrays()
    pickled = pickle.dumps(digits.train)
    assert len(pickled) < 30_000  # the images alone are 80,448 bytes
    np.testing.assert_array_equal(pickle.loads(pickled)[5]["image"], digits.train[5]["image"])


def test_what_is_remembered_is_made_once(digits):
    made = []
    for _ in range(2):
        assert digits.validation.remember("made", lambda: made.append(1) or 3) == 3
    assert made == [1]


def test_label_out_of_range(digits):
    short = dataclasses.replace(digits.train, num_classes=9)
    with pytest.raises(UserError, match=r"digits has the label 9 .* expected 0 to 8"):
        short.arrays()


def test_image_size_resizes_bilinearly(digits, data_dir):
    large = load_dataset("digits", str(data_dir), image_size=16)
    assert large.image_shape == (16, 16, 1)
    # Bilinear interpolation at pixel centres, by hand.
    source = digits.test[0]["image"][..., 0].astype(float)
    centres = np.clip((np.arange(16) + 0.5) / 2 - 0.5, 0, 7)
    low = np.minimum(centres.astype(int), 6)
    weights = np.zeros((16, 8))
    weights[np.arange(16), low] = 1 - (centres - low)
    weights[np.arange(16), low + 1] = centres - low
    expected = weights @ source @ weights.T
    assert np.abs(large.test[0]["image"][..., 0] - expected).max() <= 1
    with pytest.raises(UserError, match=r"data\.image_size"):
        load_dataset("digits", str(data_dir), image_size=-1)


def test_grey_files_keep_one_channel(digits):
    assert digits.test[0]["image"].shape == (8, 8, 1)
    assert Image.fromarray(digits.test[0]["image"][..., 0]).mode == "L"


def test_no_tensorflow_and_a_light_import(data_dir, tmp_path):
    """Importing is free of warnings and heavy modules; loading never imports TensorFlow."""
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('TensorFlow was imported')")
    program = f"""
import sys
import research.data.sources as sources
heavy = {{"jax", "grain", "tensorflow_datasets", "sklearn"}} & set(sys.modules)
assert not heavy, heavy
images, labels = sources.load_dataset("digits", {str(data_dir)!r}).test.arrays().values()
assert len(labels) == 360
"""
    path = os.pathsep.join([str(tmp_path), os.getcwd(), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif("ABLATE_DATA_DIR" not in os.environ, reason="ABLATE_DATA_DIR is not set")
@pytest.mark.parametrize(
    ("name", "sizes", "shape"),
    [
        ("cifar10", [45_000, 5_000, 10_000], (32, 32, 3)),
        ("mnist", [54_000, 6_000, 10_000], (28, 28, 1)),
    ],
)
def test_prepared_sets_of_tfds(name, sizes, shape):
    import tensorflow_datasets as tfds

    root = os.environ["ABLATE_DATA_DIR"]
    dataset = load_dataset(name, root)
    assert [len(s) for s in (dataset.train, dataset.validation, dataset.test)] == sizes
    assert (dataset.image_shape, dataset.num_classes) == (shape, 10)
    assert dataset.class_names[0] == {"cifar10": "airplane", "mnist": "0"}[name]
    version = max((path for path in os.scandir(os.path.join(root, name))), key=lambda p: p.name)
    reference = tfds.builder_from_directory(version.path).as_data_source(["train", "test"])
    for split, source in ((dataset.train, reference[0]), (dataset.test, reference[1])):
        for i in range(0, len(split), len(split) // 20):
            expected = source[int(split.indices[i])]
            np.testing.assert_array_equal(split[i]["image"], expected["image"])
            assert split[i]["label"] == expected["label"]
