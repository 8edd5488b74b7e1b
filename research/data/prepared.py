"""Image-classification sets of TensorFlow Datasets: prepared on disk, read without TensorFlow."""

import contextlib
import dataclasses
import importlib.util
import io
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from research.config import UserError, unknown
from research.data.images import MODES

FORMAT = "array_record"  # the TFDS file format with random access
_preparing = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Records:
    """Examples of one official split (a `Source`): a TFDS data source with images left encoded."""

    data: Sequence[dict[str, Any]]
    image_key: str
    label_key: str
    name: str

    def __len__(self) -> int:
        return len(self.data)

    def read(self, index: int) -> tuple[bytes, int]:
        example = self.data[index]
        return example[self.image_key], int(example[self.label_key])

    def where(self, index: int) -> str:
        return f"{self.name}, example {index}"


def data_root(data_dir: str | None = None) -> Path:
    """Return the folder of prepared sets: `data_dir`, else TFDS_DATA_DIR, else TFDS's default."""
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(chosen).expanduser()


def open_prepared(name: str, data_dir: str | None = None):
    """Open a set by its TFDS name (`cifar10`, `imagenette/320px-v2`, `mnist:3.0.1`).

    `digits` is prepared on first use. Any other set that is missing is downloaded and prepared by
    TFDS's own command, in a process of its own, if TensorFlow is installed.

    Returns:
        The official splits by name (each a `Records`), the image shape (H, W, C; H and W None
        where they vary) and the class names.

    Raises:
        UserError: unknown, missing, half-prepared, corrupt, or no image-classification set.
    """
    root = data_root(data_dir)
    folder = _find(name, root)
    if folder is None:
        if name.partition(":")[0] == "digits":
            _prepare_digits(root)
        else:
            _prepare_with_tensorflow(name, root)
        folder = _find(name, root)
    if folder is None:
        raise UserError(f"data.name: {name!r} is not under {root}, which holds {_held(root)}")
    return _open(name, folder)


def _versions(folder: Path) -> list[Path]:
    """List the version folders of a set, oldest first."""
    found = [p for p in folder.glob("*.*.*") if re.fullmatch(r"\d+\.\d+\.\d+", p.name)]
    return sorted(found, key=lambda p: [int(number) for number in p.name.split(".")])


def _names(root: Path) -> list[str]:
    """List the sets prepared under `root`, those with configurations as `name/config`."""
    folders = [*root.glob("*/*.*.*"), *root.glob("*/*/*.*.*")]
    found = {p.parent.relative_to(root).as_posix() for p in folders if p in _versions(p.parent)}
    return sorted(found)


def _held(root: Path) -> str:
    return ", ".join(_names(root)) or "no prepared set"


def _find(name: str, root: Path) -> Path | None:
    """Find the folder of the newest prepared version of a set, or None."""
    if not re.fullmatch(r"\w+(/[\w.+-]+)?(:\d+\.\d+\.\d+)?", name):
        raise unknown("data.name", name, ["digits", "folder", "folder/<name>", *_names(root)])
    base, _, version = name.partition(":")
    versions = _versions(root / base)
    configs = [held for held in _names(root) if held.startswith(f"{base}/")]
    if not versions and configs:
        raise unknown("data.name", name, configs)
    if version and versions:
        if version not in (names := [p.name for p in versions]):
            raise unknown("data.name", name, [f"{base}:{v}" for v in names])
        return root / base / version
    return versions[-1] if versions else None


def _prepare_digits(root: Path) -> None:
    import tensorflow_datasets as tfds

    from research.data.digits.digits_dataset_builder import Builder

    try:
        root.mkdir(parents=True, exist_ok=True)
        with _preparing, tempfile.TemporaryDirectory() as downloads:
            if _find("digits", root):  # another thread was first
                return
            tfds.disable_progress_bar()
            with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints what it prepares
                Builder(data_dir=root, file_format=FORMAT).download_and_prepare(
                    download_dir=downloads
                )
    except OSError as error:
        # TFDS prepares in a temporary folder and renames it: of two processes one is refused.
        if not _find("digits", root):
            raise UserError(
                f"--data_dir: cannot prepare digits under {root} ({error.strerror or error}); "
                "point --data_dir or TFDS_DATA_DIR at a folder that can be written"
            ) from error


def _prepare_with_tensorflow(name: str, root: Path) -> None:
    import tensorflow_datasets as tfds

    base = re.split("[/:]", name)[0]
    official = tfds.list_builders(with_community_datasets=False)
    if base not in official:
        near = ["digits", "folder", *_names(root), *get_close_matches(base, official, n=3)]
        raise unknown("data.name", name, dict.fromkeys(near))
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            f"data.name: {name!r} is not under {root}, which holds {_held(root)}; point --data_dir "
            "at a folder that holds it, or, to have it downloaded and prepared, install "
            "TensorFlow (pip install -e '.[prepare]') and run this again"
        )
    # In a process of its own, for training never imports TensorFlow.
    command = [sys.executable, "-m", "tensorflow_datasets.scripts.cli.main", "build", name]
    options = [f"--data_dir={root}", f"--file_format={FORMAT}"]
    if status := subprocess.run([*command, *options], check=False).returncode:
        raise UserError(
            f"data.name: preparing {name!r} under {root} failed with status {status} (its own "
            f"message is above); the command was: tfds build {name} {' '.join(options)}"
        )


def _open(name: str, folder: Path):
    """Open the prepared version in `folder`, with every shard checked to be whole."""
    import tensorflow_datasets as tfds

    again = f"delete {folder} and prepare {name} again"
    for file in ("dataset_info.json", "features.json"):
        if not (folder / file).is_file():
            raise UserError(f"{folder}: half-prepared set, {file} is missing; {again}")
    try:
        info = tfds.builder_from_directory(folder).info
        formats = [fmt.value for fmt in info.available_file_formats()]
        if FORMAT in formats:
            builder = tfds.builder_from_directory(folder, file_format=FORMAT)
    except Exception as error:
        problem = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"{folder}: its metadata is unreadable ({problem}); {again}") from error
    if FORMAT not in formats:
        raise UserError(
            f"{folder}: prepared as {', '.join(formats)}, which has no random access, expected "
            f"{FORMAT}; prepare it into another --data_dir with file_format={FORMAT}"
        )
    image_key, label_key = _keys(name, builder.info)
    splits = {}
    for split in {"train", "validation", "test"} & set(builder.info.splits):
        _check_shards(folder, builder.info.splits[split], again)
        # Encoded images, for decoding is ours: one behaviour for every kind of set.
        data = builder.as_data_source(split, decoders={image_key: tfds.decode.SkipDecoding()})
        splits[split] = Records(data, image_key, label_key, f"{folder}, split {split}")
    features = builder.info.features
    return splits, features[image_key].shape, tuple(features[label_key].names)


def _keys(name: str, info) -> tuple[str, str]:
    """Find the image and the label feature: the supervised pair, else the only ones there are."""
    from tensorflow_datasets import features as kinds

    def only(kind: type) -> list[str]:
        return [key for key, feature in info.features.items() if isinstance(feature, kind)]

    images, labels = only(kinds.Image), only(kinds.ClassLabel)
    pair = info.supervised_keys
    if not (pair and len(pair) == 2 and pair[0] in images and pair[1] in labels):
        if len(images) != 1 or len(labels) != 1:
            raise UserError(
                f"data.name: {name!r} is not an image-classification set: expected one image and "
                f"one class label, found the features {', '.join(info.features)}"
            )
        pair = (images[0], labels[0])
    image = info.features[pair[0]]
    if image.np_dtype != np.uint8 or image.shape[-1] not in MODES:
        raise UserError(
            f"data.name: the images of {name!r} are {image.np_dtype} of shape {image.shape}, "
            "expected uint8 with 1, 3 or 4 channels"
        )
    return pair


def _check_shards(folder: Path, split, again: str) -> None:
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    files = [os.fspath(path) for path in split.filepaths]
    for file in files:
        if not os.path.isfile(file):
            raise UserError(f"{folder}: half-prepared set, {Path(file).name} is missing; {again}")
    try:
        found = len(ArrayRecordDataSource(files))  # opens every shard, in parallel
    except Exception as error:
        problem = str(error).splitlines()[0]
        raise UserError(f"{folder}: a shard of {split.name} is corrupt ({problem}); {again}") from (
            error
        )
    if found != split.num_examples:
        raise UserError(
            f"{folder}: split {split.name} holds {found} examples, expected "
            f"{split.num_examples}; {again}"
        )
