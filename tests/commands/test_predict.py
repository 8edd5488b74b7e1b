import numpy as np
import pytest
from PIL import Image

from research.commands.predict import matching, predict
from research.commands.trained import open_trained
from research.config import UserError
from research.train.evaluation import evaluate_model


@pytest.fixture(scope="module")
def photos(tmp_path_factory, digits):
    """Twelve digits of the test split as files, two of them deeper, beside what is no image."""
    root = tmp_path_factory.mktemp("photos")
    (root / "z").mkdir()
    images, _ = digits.test.arrays().values()
    for i in range(12):
        Image.fromarray(images[i, ..., 0]).save(root / ("z" if i > 9 else "") / f"{i:02}.png")
    (root / "notes.txt").write_text("not an image")
    return root


def test_what_images_means(photos):
    assert [p.name for p in matching(str(photos))] == [f"{i:02}.png" for i in range(12)]
    assert [p.name for p in matching(f"{photos}/0[3-5].png")] == ["03.png", "04.png", "05.png"]
    assert [p.name for p in matching(f"{photos}/**/1*.png")] == ["10.png", "11.png"]
    assert matching(f"{photos}/07.png") == [photos / "07.png"]
    (photos / "z" / "empty").mkdir(exist_ok=True)
    for path in ("nothing*.png", "missing.png", "z/empty"):
        with pytest.raises(UserError, match="--images: found"):
            matching(f"{photos}/{path}")


@pytest.mark.parametrize("head", ["softmax", "regression"])
def test_files_are_seen_as_in_evaluation(finished, photos, digits, mesh, head, capsys):
    directory, _ = finished(head)
    found = predict(str(directory), str(photos), None, {"data.eval_batch_size": 5})
    trained = open_trained(str(directory), None, {})
    tested = evaluate_model(trained.task, trained.variables, digits.test, mesh=mesh)
    np.testing.assert_allclose(found.outputs, tested.outputs[:12], atol=1e-5)
    printed = capsys.readouterr().out.replace("\n", "")
    if head == "regression":
        assert f"{found.outputs[3, 0]:.3f}" in printed
    else:
        best = found.probabilities.argmax(1)
        assert f"{100 * found.probabilities[3, best[3]]:.1f}" in printed


def test_sizes_and_colours_are_those_of_training(finished, tmp_path, digits):
    directory, _ = finished()
    image = Image.fromarray(digits.test.arrays()["image"][0, ..., 0])
    image.resize((40, 40), Image.Resampling.NEAREST).convert("RGB").save(tmp_path / "large.bmp")
    image.save(tmp_path / "small.png")
    found = predict(str(directory), str(tmp_path), None, {})
    assert found.probabilities.shape == (2, 10)
    np.testing.assert_allclose(found.probabilities[0], found.probabilities[1], atol=0.15)


def test_a_file_that_is_no_image(finished, photos):
    directory, _ = finished()
    with pytest.raises(UserError, match=r"notes\.txt: unreadable image"):
        predict(str(directory), str(photos / "notes.txt"), None, {})
