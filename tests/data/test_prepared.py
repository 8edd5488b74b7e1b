"""TFDS sets on disk: preparing digits, other sets by their features, and all that can be broken."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from research.config import UserError
from research.data.sources import load_dataset

PREPARE = """
import sys
from research.data.sources import load_dataset
load_dataset("digits", sys.argv[1])
"""


@pytest.fixture
def damaged(data_dir, tmp_path):
    """A copy of the prepared digits, to be damaged; the folder of its version."""
    shutil.copytree(data_dir / "digits", tmp_path / "digits")
    return tmp_path / "digits" / "1.0.0"


@pytest.fixture
def no_tensorflow(monkeypatch):
    present = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorflow" else present(name)
    )


def store(root, name, features, splits):
    """Write a TFDS set of PIL images; `splits` is {split: [example]}."""

    class Stored(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager):
            return {split: enumerate(examples) for split, examples in splits.items()}

        def _generate_examples(self):
            raise NotImplementedError

    Stored.name = name
    tfds.disable_progress_bar()
    Stored(data_dir=root, file_format="array_record").download_and_prepare()


def grey(value, size=(4, 4)):
    return Image.fromarray(np.full(size, value, np.uint8))


IMAGE = tfds.features.Image(shape=(4, 4, 1))
LABEL = tfds.features.ClassLabel(names=["cat", "dog"])


def test_two_processes_prepare_at_once_and_quietly(tmp_path):
    root = tmp_path / "new" / "folder"
    command = [sys.executable, "-W", "error", "-c", PREPARE, str(root)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    both = [subprocess.Popen(command, **pipes) for _ in range(2)]
    assert [(p.communicate(timeout=60)[0], p.returncode) for p in both] == [("", 0), ("", 0)]
    assert os.listdir(root) == ["digits"] and os.listdir(root / "digits") == ["1.0.0"]
    assert len(load_dataset("digits", str(root)).test.arrays()["label"]) == 360


def test_data_dir_from_the_environment(data_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    source = load_dataset("digits").train.source
    assert str(data_dir) in source.where(0)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--data_dir: cannot prepare digits .*can be written"):
        load_dataset("digits", str(tmp_path / "file"))


def test_unknown_names(data_dir):
    with pytest.raises(UserError, match=r"data\.name: found 'digts'.*did you mean 'digits'"):
        load_dataset("digts", str(data_dir))
    with pytest.raises(UserError, match=r"found 'cifar1O'.*did you mean 'cifar10'"):
        load_dataset("cifar1O", str(data_dir))
    with pytest.raises(UserError, match=r"data\.name: found '../digits'"):
        load_dataset("../digits", str(data_dir))
    with pytest.raises(UserError, match=r"found 'digits:2\.0\.0'.*'digits:1\.0\.0'"):
        load_dataset("digits:2.0.0", str(data_dir))


def test_a_missing_set_without_tensorflow(data_dir, no_tensorflow):
    with pytest.raises(UserError, match=r"'cifar10' is not under .*holds digits.*\[prepare\]"):
        load_dataset("cifar10", str(data_dir))


def test_a_missing_set_with_tensorflow_is_built_by_tfds(tmp_path, monkeypatch):
    commands = []

    def run(command, check):
        commands.append(command)
        example = [{"image": grey(i), "label": i % 2} for i in range(10)]
        store(tmp_path, "cifar10", {"image": IMAGE, "label": LABEL}, {"train": example})
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(subprocess, "run", run)
    assert len(load_dataset("cifar10", str(tmp_path)).train) == 7
    (command,) = commands
    assert command[3:] == [
        "build",
        "cifar10",
        f"--data_dir={tmp_path}",
        "--file_format=array_record",
    ]
    monkeypatch.setattr(subprocess, "run", lambda *_, check: SimpleNamespace(returncode=3))
    with pytest.raises(UserError, match=r"preparing 'mnist' .* failed with status 3"):
        load_dataset("mnist", str(tmp_path))


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
def test_metadata_missing_or_garbled(damaged, file):
    (damaged / file).write_text("{ not json")
    with pytest.raises(UserError, match=r"digits/1\.0\.0: its metadata is unreadable"):
        load_dataset("digits", str(damaged.parent.parent))
    (damaged / file).unlink()
    with pytest.raises(UserError, match=rf"digits/1\.0\.0: half-prepared set, {file} is missing"):
        load_dataset("digits", str(damaged.parent.parent))


def test_shards_missing_truncated_or_of_another_length(damaged):
    root = str(damaged.parent.parent)
    (shard,) = damaged.glob("*array_record*")
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"digits/1\.0\.0: a shard of train is corrupt"):
        load_dataset("digits", root)
    shard.unlink()
    with pytest.raises(UserError, match=r"half-prepared set, .*00000-of-00001 is missing"):
        load_dataset("digits", root)
    shard.write_bytes(whole)
    info = json.loads((damaged / "dataset_info.json").read_text())
    info["splits"][0]["shardLengths"] = ["1800"]
    (damaged / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match=r"holds 1797 examples, expected 1800"):
        load_dataset("digits", root)


def test_bytes_damaged_in_the_middle(damaged):
    (shard,) = damaged.glob("*array_record*")
    content = bytearray(shard.read_bytes())
    content[60_000:70_000] = bytes(10_000)
    shard.write_bytes(content)
    with pytest.raises(UserError, match=r"digits/1\.0\.0, split train, example \d+: unreadable"):
        load_dataset("digits", str(damaged.parent.parent)).train.arrays()


def test_a_format_without_random_access(damaged):
    info = json.loads((damaged / "dataset_info.json").read_text())
    info["fileFormat"] = "tfrecord"
    (damaged / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match=r"prepared as tfrecord.*file_format=array_record"):
        load_dataset("digits", str(damaged.parent.parent))


def test_the_newest_version_and_configurations(damaged):
    root = damaged.parent.parent
    shutil.copytree(damaged, root / "digits" / "0.9.0")
    assert "1.0.0" in load_dataset("digits", str(root)).train.source.where(0)
    assert "0.9.0" in load_dataset("digits:0.9.0", str(root)).train.source.where(0)
    shutil.copytree(root / "digits", root / "numbers" / "small")
    assert len(load_dataset("numbers/small", str(root)).test) == 360
    with pytest.raises(UserError, match=r"found 'numbers'.*numbers/small"):
        load_dataset("numbers", str(root))


def test_official_splits(tmp_path):
    """Test is the official one, else validation; a test split without labels does not count."""

    def examples(count, value, label=None):
        return [
            {"picture": grey(value), "kind": i % 2 if label is None else label}
            for i in range(count)
        ]

    features = {"picture": IMAGE, "kind": LABEL}
    official = {"train": examples(20, 1), "validation": examples(5, 2)}
    store(tmp_path, "two_splits", features, official)
    store(tmp_path, "three_splits", features, {**official, "test": examples(4, 3)})
    store(tmp_path, "withheld", features, {**official, "test": examples(4, 3, label=-1)})
    for name, value, count in (("two_splits", 2, 5), ("three_splits", 3, 4), ("withheld", 2, 5)):
        dataset = load_dataset(name, str(tmp_path))
        assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [18, 2, count]
        assert set(np.unique(dataset.test.arrays()["image"])) == {value}
        assert set(np.unique(dataset.validation.arrays()["image"])) == {1}
        assert dataset.class_names == ("cat", "dog")
    store(tmp_path, "only_test", features, {"test": examples(4, 3)})
    with pytest.raises(UserError, match="no train split, only test"):
        load_dataset("only_test", str(tmp_path))


def test_varying_sizes_need_image_size(tmp_path):
    sizes = [(5, 7), (6, 4), (9, 9), (4, 4)]
    examples = [{"image": grey(9, size), "label": 0} for size in sizes]
    features = {"image": tfds.features.Image(shape=(None, None, 1)), "label": LABEL}
    store(tmp_path, "varying", features, {"train": examples})
    with pytest.raises(UserError, match=r"data\.image_size"):
        load_dataset("varying", str(tmp_path))
    images = load_dataset("varying", str(tmp_path), image_size=6).train.arrays()["image"]
    assert images.shape == (2, 6, 6, 1) and (images == 9).all()


def test_sets_that_are_not_image_classification(tmp_path):
    two = [{"image": grey(1), "first": 0, "second": 1}] * 5
    store(tmp_path, "two_labels", {"image": IMAGE, "first": LABEL, "second": LABEL}, {"train": two})
    with pytest.raises(UserError, match=r"'two_labels' is not an image-classification set"):
        load_dataset("two_labels", str(tmp_path))
