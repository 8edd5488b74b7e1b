import json
import shutil
from functools import partial

import jax
import numpy as np
import pytest

from research.commands.evaluate import evaluate_checkpoint
from research.commands.export import export
from research.commands.inspect import inspect
from research.commands.trained import locate, open_trained
from research.config import UserError
from research.train.checkpoint import best_step
from research.train.loop import train
from research.train.record import Run
from research.train.state import params_digest

COMMANDS = (evaluate_checkpoint, export, partial(inspect, what="all"))


def steps(directory):
    return sorted(int(p.name) for p in (directory / "checkpoints").iterdir())


def test_a_run_stands_for_its_best_checkpoint(finished):
    directory, result = finished()
    for path in (directory, directory / "checkpoints"):
        found, folder = locate(str(path))
        assert found == directory and int(folder.name) == result["metrics"]["best_step"]
    for step in steps(directory):
        folder = directory / "checkpoints" / str(step)
        assert locate(str(folder)) == (directory, folder)
    assert steps(directory) == [30, 60]


def test_the_model_is_that_of_the_run(finished):
    directory, result = finished()
    last = open_trained(str(directory / "checkpoints" / "60"), None, {})
    assert last.origin == "step 60" and last.config.model.hidden == (16,)
    assert plain_numbers(last.config) == plain_numbers(result["config"])
    # What is evaluated are the averaged parameters, not those that were trained last.
    assert params_digest(jax.device_get(last.variables["params"])) != result["params_digest"]
    first = open_trained(str(directory / "checkpoints" / "30"), None, {"data.eval_batch_size": 7})
    assert first.config.data.eval_batch_size == 7
    kernels = [t.variables["params"]["dense1"]["kernel"] for t in (first, last)]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.001


def plain_numbers(config):
    return {field: config["optimizer"][field] for field in ("name", "learning_rate", "momentum")}


def test_nothing_is_written_or_deleted(finished, tmp_path):
    directory, _ = finished()
    copy = tmp_path / "run"
    shutil.copytree(directory, copy)
    (copy / "checkpoints" / "90.orbax-checkpoint-tmp").mkdir()
    (copy / "checkpoints" / "60" / "metrics" / "metrics").write_text("cut o")
    before = sorted(copy.rglob("*"))
    assert open_trained(str(copy), None, {}).origin == "step 30"
    assert sorted(copy.rglob("*")) == before


def test_the_best_is_by_accuracy_then_loss_then_the_later(tmp_path):
    metrics = {5: (0.5, 0.1), 10: (0.9, 0.5), 15: (0.9, 0.4), 20: (0.9, 0.4), 25: (0.9, None)}
    assert best_step(tmp_path) is None
    for step, (accuracy, loss) in metrics.items():
        path = tmp_path / str(step) / "metrics" / "metrics"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"validation/accuracy": accuracy, "validation/loss": loss}))
    assert best_step(tmp_path) == 20


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("seed_1", ["no such folder", "seed_1"]),
        ("seed_0/checkpoints/45", ["no such folder", "did you mean", "seed_0/checkpoints/"]),
        (".", ["without config.json", "did you mean", "seed_0"]),
    ],
)
def test_a_checkpoint_that_is_not_there(finished, path, words):
    directory, _ = finished()
    with pytest.raises(UserError, match="--checkpoint: found") as caught:
        locate(str(directory.parent / path))
    for word in words:
        assert word in str(caught.value)


def test_a_run_without_checkpoints(finished, tmp_path):
    directory, _ = finished()
    shutil.copy(directory / "config.json", tmp_path)
    with pytest.raises(UserError, match=r"no whole checkpoint.*; launch the run again"):
        locate(str(tmp_path))
    shutil.copy(directory / "result.json", tmp_path)
    with pytest.raises(UserError, match=r"no whole checkpoint.*; to train it again, move its res"):
        locate(str(tmp_path))


@pytest.fixture(scope="module")
def lost(tmp_path_factory, tiny, digits, mesh):
    """Train at a rate at which a network diverges before its first checkpoint."""
    directory = tmp_path_factory.mktemp("runs") / "lost"
    config = tiny({"optimizer.learning_rate": 1e30, "train.eval_every": 6})
    result = train(Run("tiny", "laptop", "base", 0, config, directory), digits, mesh)
    assert result["status"] == "diverged" and not [*(directory / "checkpoints").iterdir()]
    return directory


@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_that_diverged(lost, command):
    with pytest.raises(UserError, match=r"--checkpoint: .*lost diverged at step 2, .*learning_"):
        command(str(lost), None, {})
    assert not {"evaluation", "export", "inspection"} & {path.name for path in lost.iterdir()}


def test_a_damaged_checkpoint(finished, tmp_path):
    directory, _ = finished()
    shutil.copytree(directory, tmp_path / "run")
    for file in (tmp_path / "run" / "checkpoints" / "60" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:9])
    with pytest.raises(UserError, match=r"checkpoints/60: cannot be read"):
        open_trained(str(tmp_path / "run" / "checkpoints" / "60"), None, {})


def test_another_model_does_not_fit(finished):
    directory, _ = finished()
    shapes = r"(?s)--checkpoint=.*/60: .*params/dense1/kernel: found \[64, 16\], expected \[64, 8\]"
    with pytest.raises(UserError, match=shapes):
        open_trained(str(directory), None, {"model.hidden": (8,)})


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("network", ["", "network.safetensors"])
def test_a_quantised_network_is_opened_as_it_is_alone(quantized, command, network):
    path, before = str(quantized / network), sorted(quantized.rglob("*"))
    for field, found in (("kind", "none"), ("kind", "xnor"), ("calibration", "none")):
        expected = {"kind": "int8", "calibration": "absmax"}[field]
        words = f"--config.quantize.{field}: found '{found}', but .* int8; expected '{expected}'"
        with pytest.raises(UserError, match=words):
            command(path, None, {f"quantize.{field}": found})
    assert sorted(quantized.rglob("*")) == before


def test_a_network_in_floats_can_be_quantised_as_it_is_opened(finished, quantized):
    as_run = open_trained(str(quantized), None, {})
    opened = open_trained(str(finished()[0]), None, {"quantize.kind": "int8", "init_from": "x"})
    same = jax.tree.map(np.array_equal, opened.variables, as_run.variables)
    assert "ranges" in same and all(jax.tree.leaves(same))


def test_another_model_does_not_fit_a_file(quantized):
    with pytest.raises(UserError, match=r"params/dense1/kernel: found \[64, 16\], expected \[64"):
        open_trained(str(quantized / "network.safetensors"), None, {"model.hidden": (8,)})


def test_other_data_are_refused(finished):
    directory, _ = finished()
    with pytest.raises(UserError, match=r"digits with sizes \[1257, .*, expected .*--data_dir"):
        open_trained(str(directory), None, {"data.test": 0.4})
