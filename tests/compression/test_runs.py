"""Runs that quantise: after training, during it, and what they leave and refuse."""

import jax
import numpy as np
import pytest

from research.checks import validate
from research.commands.trained import open_trained
from research.config import UserError, override
from research.data.sources import load_dataset
from research.train.checkpoint import best_variables, read_variables
from research.train.evaluation import evaluate_model
from research.train.start import starting_variables, variable_shapes
from research.train.tasks import make_task
from research.transfer import to_torch

TINY = {"model.hidden": (128, 64), "train.probes": ("footprint",), "train.eval_every": 30}
FLOAT = TINY | {"train.steps": 60, "train.log_every": 30}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny, digits, mesh):
    """A run in floats, and those that start from it: `run(name, changes) → (run, result)`."""
    from research.train.loop import train
    from research.train.record import Run

    folder = tmp_path_factory.mktemp("runs")

    def run(name, changes):
        config = tiny(changes)
        validate(config)
        made = Run("tiny", "laptop", name, 0, config, folder / name)
        return made, train(made, digits, mesh)

    float_run, result = run("float", FLOAT)
    start = FLOAT | {"init_from": str(float_run.directory)}
    return run, start, result


def test_int8_after_training(trained, digits, mesh):
    run, start, in_floats = trained
    made, result = run("int8", start | {"quantize.kind": "int8"})
    assert result["status"] == "finished" and result["steps"] == 0
    metrics = result["metrics"]
    assert abs(metrics["test/accuracy"] - in_floats["metrics"]["test/accuracy"]) <= 0.01
    assert metrics["size/share"] <= 0.30 and in_floats["metrics"]["size/share"] == 1
    assert metrics["size/disk_kb"] * 1e3 == (made.directory / "network.safetensors").stat().st_size
    assert metrics["size/parameters_kb"] < metrics["size/disk_kb"]
    assert metrics["snr_db"] == min(metrics[k] for k in metrics if k.startswith("snr_db/")) > 30
    assert metrics["latency_ms"] > 0 and "snr_db" not in in_floats["metrics"]

    ranges = read_variables(made.directory / "checkpoints" / "0")["ranges"]
    images = (digits.train.arrays()["image"][:512] / 255.0).astype(np.float32)
    task = make_task(made.config, digits)
    largest = np.abs((images - task.mean) / task.std).max()
    assert ranges["dense1"]["inputs"] == pytest.approx(largest, rel=1e-5)  # of two batches

    for name in ("", "network.safetensors"):  # the checkpoint, and the file alone
        opened = open_trained(str(made.directory / name), None, {})
        again = evaluate_model(opened.task, opened.variables, digits.test, mesh=mesh).metrics
        assert again["loss"] == pytest.approx(metrics["test/loss"], rel=1e-6)


def test_binary_weights_need_training(trained):
    run, start, in_floats = trained
    binary = {"quantize.kind": "xnor"}
    _, after = run("after", start | binary)
    _, during = run("during", start | binary | {"quantize.when": "during"})
    assert during["steps"] == 60
    exact = in_floats["metrics"]["test/accuracy"]
    assert after["metrics"]["test/accuracy"] < during["metrics"]["test/accuracy"] - 0.02
    assert during["metrics"]["test/accuracy"] > exact - 0.06
    assert during["metrics"]["size/share"] < 0.2


def test_a_quantised_run_is_no_float(trained, digits):
    run, start, _ = trained
    made, _ = run("four", start | {"quantize.kind": "int4"})
    other = override(made.config, {"init_from": str(made.directory), "quantize.kind": "none"}, "")
    with pytest.raises(UserError, match="quantised to int4, expected one of floats"):
        starting_variables(other, digits)
    again = override(other, {"quantize.kind": "int4"}, "")
    kept = starting_variables(again, digits)["params"]
    jax.tree.map(np.testing.assert_array_equal, kept, best_variables(made.directory)["params"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.name": "seq2seq", "data.name": "toy/translation"}, "model.name='seq2seq'"),
        (
            {"model.name": "recurrent", "data.name": "toy/series", "train.recursive": True},
            "train.recursive=True",
        ),
    ],
)
def test_activations_out_of_sight_are_not_calibrated(tiny, changes, words):
    config = tiny(changes | {"model.hidden": None, "model.hidden_size": 4})
    dataset = load_dataset(config.data.name)
    config = override(config, {"quantize.kind": "int8", "init_from": "run"}, "")
    with pytest.raises(UserError, match=rf"quantize\.calibration: found 'absmax' with {words}"):
        make_task(config, dataset)
    make_task(override(config, {"quantize.calibration": "none"}, ""), dataset)


def test_published_weights_are_quantised_too(tiny, digits, tmp_path):
    model = {"model.name": "resnet20", "model.hidden": None}
    shapes = variable_shapes(tiny(model), digits)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.random(x.shape, np.float32), shapes)
    np.savez(tmp_path / "w.npz", **to_torch("resnet20", variables, num_classes=10))
    start = model | {"init_from": str(tmp_path / "w.npz"), "quantize.kind": "int8"}
    found = starting_variables(tiny(start), digits)["params"]
    jax.tree.map(np.testing.assert_array_equal, found, variables["params"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantize.kind": "int9"}, "quantize.kind: found 'int9', .*did you mean 'int"),
        ({"quantize.calibration": "msee"}, "did you mean 'mse'"),
        ({"quantize.kind": "int8"}, "found int8 after training without init_from"),
        ({"quantize.kind": "int8", "quantize.when": "during"}, "int8 during training without"),
        ({"quantize.batches": 0}, "quantize.batches: found 0, expected at least 1"),
        (
            {"quantize.kind": "float16", "quantize.when": "during", "init_from": "x"},
            "or train.precision=float16",
        ),
    ],
)
def test_what_cannot_be_is_refused(tiny, changes, message):
    with pytest.raises(UserError, match=message):
        validate(tiny(changes))
