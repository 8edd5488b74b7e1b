"""`--mode=export`: the file runs without this code, and its card tells the truth."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from research.commands.export import export
from research.commands.trained import open_trained
from research.config import UserError
from research.files import read_json, write_json
from research.train.start import variable_shapes
from research.transfer import to_torch

ALONE = """
import json, sys
from pathlib import Path
import jax, numpy as np

model = jax.export.deserialize(Path("model.stablehlo").read_bytes())
answer = model.call({"image": np.load("images.npy")})
assert not [name for name in sys.modules if name.partition(".")[0] in ("research", "flax")]
np.savez("answer.npz", **answer)
"""


def test_the_file_runs_without_this_code(finished, digits):
    directory, result = finished()
    folder = export(str(directory), None, {})
    images, labels = digits.test.arrays()["image"], digits.test.labels()
    np.save(folder / "images.npy", images)
    done = subprocess.run([sys.executable, "-c", ALONE], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "answer.npz") as file:
        answer = dict(file)
    trained = open_trained(str(directory), None, {})
    expected = trained.task.answer(trained.variables, {"image": images})
    np.testing.assert_allclose(answer["outputs"], expected["outputs"], rtol=1e-5, atol=1e-5)
    accuracy = np.mean(answer["probabilities"].argmax(-1) == labels)
    assert accuracy == pytest.approx(result["metrics"]["test/accuracy"])


def test_the_card(finished):
    directory, result = finished()
    folder = export(str(directory), None, {})
    facts = json.loads((folder / "model.json").read_text())
    assert facts["bytes"] == (folder / "model.stablehlo").stat().st_size > 4 * facts["parameters"]
    assert facts["inputs"] == {"image": {"shape": ["b", 8, 8, 1], "dtype": "uint8"}}
    assert facts["metrics"]["test/accuracy"] == result["metrics"]["test/accuracy"]
    assert facts["arm"] == "base" and facts["seed"] == 0 and facts["data"] == "digits"
    card = (folder / "README.md").read_text()
    licence = "| licence | Apache-2.0, as the code; the data keep their owners' terms |"
    for word in (facts["params_digest"][:12], result["code"]["sha256"], licence, "`image`"):
        assert word in card
    assert f"{result['metrics']['test/accuracy']:.4g}" in card


def test_weights_of_others_keep_their_owners_terms(finished, tiny, digits, tmp_path, monkeypatch):
    """Whether they are exported, or a run started from them, or from a run that did."""
    monkeypatch.chdir(tmp_path)  # where the folder of what is published comes
    theirs, model = tmp_path / "theirs.npz", {"model.name": "resnet20", "model.width": 2}
    shapes = variable_shapes(tiny(model | {"model.hidden": None}), digits)
    ones = jax.tree.map(lambda s: np.ones(s.shape, s.dtype), shapes)
    np.savez(theirs, **to_torch("resnet20", ones, width=2, num_classes=10))
    runs = [tmp_path / name for name in ("first", "second")]
    for run, source in zip(runs, (theirs, runs[0]), strict=True):
        run.mkdir()
        for name in ("result.json", "checkpoints"):
            (run / name).symlink_to(finished()[0] / name)
        record = read_json(finished()[0] / "config.json")
        write_json(run / "config.json", record | {"init_from": str(source)})
    published = None, model | {"init_from": str(theirs)}
    for run, overrides in ((str(runs[0]), {}), (str(runs[1]), {}), published):
        folder = export(run, None, overrides)
        facts = json.loads((folder / "model.json").read_text())
        assert facts["weights"] == "theirs.npz" in facts["licence"]
        card = (folder / "README.md").read_text()
        assert "Apache-2.0, as the code" not in card and str(tmp_path) not in card
        assert "the weights `theirs.npz`, and what has come of them, keep their owners" in card


def test_a_quantised_networks_kernels_are_few_bits(finished):
    run = str(finished()[0])
    few = {"quantize.kind": "int8", "quantize.calibration": "none", "init_from": run}
    folder = export(run, None, few)
    assert "quantised to int8" in (folder / "README.md").read_text()
    program = jax.export.deserialize((folder / "model.stablehlo").read_bytes())
    assert "tensor<64x16xi8>" in program.mlir_module()


def test_metrics_are_of_the_best_checkpoint_alone(finished):
    directory, result = finished()
    steps = {int(path.name) for path in (directory / "checkpoints").iterdir()}
    for step in steps - {result["metrics"]["best_step"]}:
        folder = export(str(directory / "checkpoints" / str(step)), None, {})
        assert json.loads((folder / "model.json").read_text())["metrics"] == {}


def test_a_model_that_writes_word_by_word_is_refused(sequence_run):
    with pytest.raises(UserError, match="'translation', which answers word by word"):
        export(str(sequence_run("toy/translation")), None, {})


def test_a_carried_state_stays_behind(sequence_run):
    folder = export(str(sequence_run("toy/text")), None, {})
    facts = json.loads((folder / "model.json").read_text())
    assert set(facts["inputs"]) == {"inputs", "length"}


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (None, "has no result.json, expected a run that has finished"),
        ({"status": "diverged", "steps": 7}, "diverged at step 7"),
    ],
)
def test_runs_that_are_no_models(finished, tmp_path, result, words):
    run = tmp_path / "base/seed_0"
    run.mkdir(parents=True)
    for name in ("config.json", "checkpoints"):
        (run / name).symlink_to(finished()[0] / name)
    if result:
        write_json(run / "result.json", result)
    with pytest.raises(UserError, match=words):
        export(str(run), None, {})
    assert not (run / "export").exists()
