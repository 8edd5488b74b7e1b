"""Adapted batch norm against NumPy's means and variances of a real network's activations."""

import jax
import numpy as np
import pytest

from research.checks import validate
from research.commands.train import Datasets
from research.config import UserError, override
from research.data.feed import evaluation_batches
from research.data.sources import load_dataset
from research.distributed.mesh import batch_sharding
from research.train.program import batch_shapes
from research.train.start import check_transfer, variable_shapes
from research.train.tasks import make_task
from research.transfer.batch_norm import adapt_batch_norm

MLP = {"model.hidden": (8, 6), "model.norm": "batch", "model.dropout": 0.5}


def adapted(task, variables, split, batch_size, mesh):
    batches = evaluation_batches(split, batch_size=batch_size, sharding=batch_sharding(mesh))
    return adapt_batch_norm(jax.jit(task.moments), variables, batches)


@pytest.fixture(scope="module")
def trained(tiny, digits):
    """Variables of which nothing is as it was initialised."""
    task, rng = make_task(tiny(MLP), digits), np.random.default_rng(0)
    shapes = jax.eval_shape(task.init, jax.random.key(0), batch_shapes(digits, 1))

    def draw(x, low):
        return rng.uniform(low, 2, x.shape).astype(x.dtype)

    return {
        "params": jax.tree.map(lambda x: draw(x, -2), shapes["params"]),
        "batch_stats": jax.tree.map(lambda x: draw(x, 0.5), shapes["batch_stats"]),
    }


def test_statistics_are_those_of_all_target_images(tiny, digits, mesh, trained):
    """In one batch, whose padding does not count, layer after layer; parameters stay."""
    task = make_task(tiny(MLP), digits)
    target = load_dataset("digits", domain="inverted").test
    found = adapted(task, trained, target, 500, mesh)
    x = (target.arrays()["image"] / 255 - task.mean) / task.std
    x = x.reshape(len(x), -1)
    for layer in ("1", "2"):
        x = x @ trained["params"][f"dense{layer}"]["kernel"]
        stats = found["batch_stats"][f"norm{layer}"]
        np.testing.assert_allclose(stats["mean"], x.mean(0), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(stats["var"], x.var(0), rtol=1e-4)
        norm = trained["params"][f"norm{layer}"]
        x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * norm["scale"] + norm["bias"]
        x = np.maximum(x, 0)
    assert found["params"] is trained["params"]


def test_batches_add_up(tiny, digits, mesh, trained):
    """What enters the first norm does not depend on how the images are batched."""
    task = make_task(tiny(MLP), digits)
    found = [
        adapted(task, trained, digits.test, size, mesh)["batch_stats"]["norm1"]
        for size in (7, 100, 360)
    ]
    for other in found[:2]:
        for name in ("mean", "var"):
            np.testing.assert_allclose(other[name], found[2][name], rtol=1e-4, atol=1e-5)


def test_a_run_adapts_to_its_target(train_run):
    """A change of scale, which new statistics undo; nothing else of the run changes."""
    shift = {"transfer.target_domain": "faint"}
    dataset = load_dataset("digits", target_domain="faint")
    plain, adapted = (
        train_run(
            adapt,
            shift | {"model.norm": "batch", "train.steps": 60, "transfer.adapt": adapt},
            dataset=dataset,
        )
        for adapt in ("none", "adabn")
    )
    assert plain["params_digest"] == adapted["params_digest"]
    before, after = plain["metrics"], adapted["metrics"]
    assert before["test/accuracy"] == after["test/accuracy"] > 0.8
    assert before["target/accuracy"] < after["target/accuracy"] - 0.05
    assert after["target/accuracy"] == pytest.approx(after["test/accuracy"], abs=0.05)


def test_an_oracle_is_trained_on_the_target(tiny):
    config = tiny({"transfer.adapt": "oracle", "transfer.target_domain": "inverted"})
    dataset = Datasets(None).of(config)
    for part in ("train", "validation", "test"):
        split, target = getattr(dataset, part), getattr(dataset.target, part)
        assert split.domain == target.domain == "inverted"


@pytest.mark.parametrize("adapt", ["adabn", "dann", "oracle"])
def test_adaptation_needs_a_target(tiny, adapt):
    with pytest.raises(UserError, match=r"transfer\.adapt: .*expected transfer\.target_domain"):
        validate(override(tiny(), {"transfer.adapt": adapt}, "test"))


def test_adabn_needs_batch_norm(tiny, digits):
    config = tiny({"transfer.adapt": "adabn", "transfer.target_domain": "faint"})
    with pytest.raises(UserError, match=r"'adabn' .* without batch norm"):
        check_transfer(config, variable_shapes(config, digits))
