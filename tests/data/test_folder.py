"""A folder of images, written from real digits, read back."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from research.config import UserError
from research.data.sources import load_dataset


@pytest.fixture
def folder(tmp_path):
    """Sixty digits of three classes, as `<class>/<number>.png`, with other files among them."""
    reference = load_digits(n_class=3)
    for number in range(60):
        directory = tmp_path / f"class_{reference.target[number]}"
        directory.mkdir(exist_ok=True)
        pixels = (reference.images[number] * 15).astype(np.uint8)
        Image.fromarray(pixels).save(directory / f"{number:02}.png")
    (tmp_path / "README.md").write_text("not a class")
    (tmp_path / "class_0" / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden").mkdir()
    return tmp_path


def load(folder, **options):
    return load_dataset("folder", str(folder), **options)


def test_reads_every_image_once_as_rgb(folder):
    dataset = load(folder)
    assert dataset.image_shape == (8, 8, 3)
    assert dataset.class_names == ("class_0", "class_1", "class_2")
    assert [len(s) for s in (dataset.train, dataset.validation, dataset.test)] == [42, 6, 12]
    found = []
    for split in (dataset.train, dataset.validation, dataset.test):
        images, labels = split.arrays().values()
        found += [(label, image.tobytes()) for image, label in zip(images, labels, strict=True)]
    reference = load_digits(n_class=3)
    pixels = (reference.images[:60] * 15).astype(np.uint8)[..., None].repeat(3, axis=-1)
    expected = [
        (label, image.tobytes()) for image, label in zip(pixels, reference.target[:60], strict=True)
    ]
    assert sorted(found) == sorted(expected)


def test_a_folder_inside_data_dir_beside_prepared_sets(folder, monkeypatch):
    root, name = str(folder.parent), f"folder/{folder.name}"
    inside, itself = load_dataset(name, root), load(folder)
    assert inside.class_names == itself.class_names
    for part in ("train", "validation", "test"):
        for found, expected in zip(
            getattr(inside, part).arrays().values(),
            getattr(itself, part).arrays().values(),
            strict=True,
        ):
            np.testing.assert_array_equal(found, expected)
    assert len(load_dataset("digits", root).train) == 1257
    monkeypatch.setenv("TFDS_DATA_DIR", root)  # as for prepared sets
    assert len(load_dataset(name).train) == len(itself.train)
    near = rf"data\.name.*'folder/{folder.name}s'.*did you mean 'folder/{folder.name}'"
    with pytest.raises(UserError, match=near):
        load_dataset(f"{name}s", root)
    with pytest.raises(UserError, match=r"data\.name.*found 'folder/', expected one of"):
        load_dataset("folder/", root)


def test_palette_with_transparency(folder):
    image = Image.new("P", (8, 8))
    image.putpalette([200, 100, 50] * 256)
    image.save(folder / "class_0" / "palette.png", transparency=bytes([0] * 256))
    dataset = load(folder)
    files = dataset.train.source
    index = [path.name for path in files.paths].index("palette.png")
    split = next(s for s in (dataset.train, dataset.validation, dataset.test) if index in s.indices)
    found = split[int(np.flatnonzero(split.indices == index)[0])]["image"]
    np.testing.assert_array_equal(found, np.broadcast_to([200, 100, 50], (8, 8, 3)))


def test_sizes_that_differ_need_image_size(folder):
    Image.new("RGB", (12, 9)).save(folder / "class_1" / "wide.jpg")
    with pytest.raises(UserError, match=r"data\.image_size.*wide\.jpg"):
        load(folder)
    assert load(folder, image_size=10).train.arrays()["image"].shape == (41, 10, 10, 3)  # of 61


@pytest.mark.parametrize("image_size", [0, 8])
def test_an_unreadable_image_is_named(folder, image_size):
    (folder / "class_2" / "broken.png").write_bytes(b"\x89PNG but no more")
    with pytest.raises(UserError, match=r"broken\.png.*unreadable"):
        dataset = load(folder, image_size=image_size)
        for split in (dataset.train, dataset.validation, dataset.test):
            split.arrays()


def test_a_truncated_image_is_named(folder):
    path = folder / "class_2" / "broken.png"
    whole = (folder / "class_2" / "02.png").read_bytes()
    path.write_bytes(whole[: len(whole) - 30])
    with pytest.raises(UserError, match=r"broken\.png.*unreadable"):
        dataset = load(folder)
        for split in (dataset.train, dataset.validation, dataset.test):
            split.arrays()


def test_folders_that_will_not_do(folder, tmp_path):
    with pytest.raises(UserError, match=r"--data_dir"):
        load_dataset("folder")
    with pytest.raises(UserError, match=r"--data_dir.*absent"):
        load(tmp_path / "absent")
    (folder / "class_3").mkdir()
    with pytest.raises(UserError, match=r"class_3 holds no images"):
        load(folder)
    with pytest.raises(UserError, match="empty of classes"):
        load(folder / "class_3")
