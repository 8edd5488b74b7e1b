"""Runs that start from published weights."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
import safetensors.numpy

from research.config import UserError
from research.files import read_json, write_json
from research.train.program import batch_shapes
from research.train.start import starting_variables
from research.train.state import params_digest
from research.train.tasks import make_task
from research.transfer import to_torch
from research.workdir import check

SMALL = {"depth": 8, "width": 4}
RESNET = {"model.name": "resnet", "model.hidden": None, "model.depth": 8, "model.width": 4}
STILL = RESNET | {"optimizer.learning_rate": 1e-30, "train.steps": 2, "data.batch_size": 16}


class Interrupted(Exception):
    """A run is cut off here."""


@pytest.fixture(scope="module")
def published(tiny, digits):
    """Variables of the small network for digits, in which every number is another."""
    task, rng = make_task(tiny(RESNET), digits), np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.uniform(0.1, 0.3, size=leaf.shape).astype(leaf.dtype),
        jax.eval_shape(task.init, jax.random.key(0), batch_shapes(digits, 1)),
    )


@pytest.fixture
def write(published, tmp_path):
    def write(name="a.safetensors", changes=None):
        weights = to_torch("resnet", published, **SMALL) | (changes or {})
        safetensors.numpy.save_file(
            {k: np.ascontiguousarray(v) for k, v in weights.items()}, tmp_path / name
        )
        return str(tmp_path / name)

    return write


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_a_run_starts_from_them(train_run, make_run, digits, published, write, ema):
    """A run that learns nothing ends with them, but for the running averages of its batches."""
    result = train_run("run", STILL | {"init_from": write(), "train.ema": ema})
    assert result["params_digest"] == params_digest(published["params"])
    assert result["metrics"] != train_run("drawn", STILL)["metrics"]


def test_a_resumed_run_does_not_start_again(train_run, write):
    changes = RESNET | {"init_from": write(), "train.steps": 4}
    whole = train_run("whole", changes)

    def watch(step, steps, row):
        if step == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        train_run("cut", changes, watch=watch)
    cut = train_run("cut", changes)
    assert cut["resumed_from"] == [2] and cut["params_digest"] == whole["params_digest"]


def test_a_workdir_notices_other_weights(make_run, digits, write, tiny, tmp_path):
    first = make_run("run", RESNET | {"init_from": write()})
    write_json(first.directory / "config.json", first.settings(digits))
    assert len(read_json(first.directory / "config.json")["weights_sha256"]) == 64
    study = SimpleNamespace(workdir=tmp_path / "none")
    moved = make_run("run", RESNET | {"init_from": write("b.safetensors")})
    check(study, [moved], lambda config: digits)
    other = {"linear.bias": np.ones(10, np.float32)}
    changed = make_run("run", RESNET | {"init_from": write("c.safetensors", other)})
    with pytest.raises(UserError, match="holds a run with weights_sha256="):
        check(study, [changed], lambda config: digits)
    with pytest.raises(UserError, match=r"weights_sha256=\w+, expected None"):
        check(study, [make_run("run", RESNET)], lambda config: digits)


def test_what_does_not_fit(tiny, digits, write):
    missing = tiny(RESNET | {"init_from": "none.safetensors"})
    with pytest.raises(UserError, match=r"init_from: found no file none\.safetensors"):
        starting_variables(missing, digits)
    wide = tiny(RESNET | {"init_from": write(), "model.width": 8})
    with pytest.raises(UserError, match=r"init_from=.*the weights do not fit(.|\n)*conv1\.weight"):
        starting_variables(wide, digits)


def test_a_head_of_other_classes(tiny, digits, write):
    head = {"linear.weight": np.ones((7, 16), np.float32), "linear.bias": np.ones(7, np.float32)}
    config = tiny(RESNET | {"init_from": write(changes=head)})
    with pytest.raises(UserError, match=r"All but the last layer do: --config\.transfer\."):
        starting_variables(config, digits)
