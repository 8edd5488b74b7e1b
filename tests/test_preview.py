"""The contact sheet: what it shows is what training would see."""

import io

import jax
import numpy as np
import pytest
from PIL import Image

from research.commands import preview as module
from research.commands.preview import DRAWS, IMAGES, contact_sheet, examples, preview
from research.config import UserError
from research.data.augment import AUGMENTATIONS, augment
from research.data.preprocess import channel_statistics
from research.experiment import resolve


@pytest.fixture
def shown(monkeypatch, tmp_path):
    """Preview an experiment with overrides; return what was laid out, and the file."""

    def show(overrides):
        laid_out = []
        monkeypatch.setattr(
            module, "contact_sheet", lambda *args: laid_out.append(args) or contact_sheet(*args)
        )
        study = resolve("normalization", "laptop", overrides=overrides, workdir=str(tmp_path))
        preview(study, None)
        return (*laid_out[0], tmp_path / "preview.png")

    return show


def test_a_sheet_shows_each_alone_and_then_all_in_order(shown, digits, capsys):
    declared = ("rotate(degrees=30)", "mixup(p=0.9)")
    name, images, classes, blocks, path = shown({"data.augment": declared})
    assert name == "digits" and len(set(classes)) == IMAGES
    by_class = {str(label): digits.train.read(range(20))["label"].tolist().index(label) for label in
                map(int, classes)}  # fmt: skip
    for image, label in zip(images, classes, strict=True):
        np.testing.assert_allclose(image * 255, digits.train[by_class[label]]["image"], atol=1e-4)
    assert [b.name for b in blocks] == ["rotate", "mixup", "all of them, in order"]
    assert [b.settings for b in blocks] == ["degrees 30", "alpha 1, p 0.9", "rotate, mixup"]
    # The last block is the training pipeline itself, in one batch, labels and all.
    fill = tuple(channel_statistics(digits.train)[0].tolist())
    labels = np.tile(np.eye(IMAGES, dtype=np.float32), (DRAWS, 1))
    batch = np.tile(images, (DRAWS, 1, 1, 1))
    found, targets = augment(declared, jax.random.key(0), batch, labels, fill)
    np.testing.assert_allclose(blocks[2].images.reshape(batch.shape), found, atol=1e-5)
    own = np.asarray(targets)[np.arange(len(labels)), labels.argmax(1)]
    np.testing.assert_allclose(blocks[2].own.ravel(), own, atol=1e-5)
    assert blocks[0].own is None
    assert str(path) in capsys.readouterr().out
    # White paper around the images, which are black at the corners as digits are.
    sheet = np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("L"))
    assert sheet.shape[1] > sheet.shape[0] > 400 and (sheet[:, :20] == 255).all()
    assert (sheet < 30).mean() > 0.1


def test_without_any_declared_all_that_fit_the_images_are_shown(shown, monkeypatch):
    drawn = []

    def draw(declared, images, *_):
        drawn.append(*declared)
        return module.Block(declared[0], "", images[None].repeat(DRAWS, 0), None)

    monkeypatch.setattr(module, "_draw", draw)
    shown({})
    assert set(drawn) == set(AUGMENTATIONS) - {"saturation", "hue"}  # digits are grey


def test_examples_of_few_classes(digits):
    import dataclasses

    images, labels = examples(dataclasses.replace(digits, class_names=("0", "1")))
    assert len(images) == len(labels) == 2 and images.max() <= 1


def test_what_cannot_be_previewed(shown, tmp_path):
    with pytest.raises(UserError, match="'hue', which needs images of 3 channels"):
        shown({"data.augment": ("hue",)})
    assert not (tmp_path / "preview.png").exists()
