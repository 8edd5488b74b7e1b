"""Published weights have their published accuracy, to the image."""

import os
from pathlib import Path

import jax
import pytest

from research.commands.evaluate import evaluate_checkpoint
from research.config import UserError

# Errors on the 10,000 test images. ResNet-56's 661 take minutes: see the README for the command.
PUBLISHED = {"20-12fca82f": 827}


@pytest.fixture
def optimised():
    """Most of the time goes into running the network, not into compiling it."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)  # as tests/conftest.py has it


@pytest.mark.skipif(
    not {"ABLATE_RAW_DATA", "ABLATE_DATA_DIR"} <= os.environ.keys(),
    reason="ABLATE_RAW_DATA and ABLATE_DATA_DIR are not both set",
)
@pytest.mark.parametrize("weights", PUBLISHED)
def test_published_errors(weights, tmp_path, monkeypatch, optimised):
    monkeypatch.chdir(tmp_path)
    path = Path(os.environ["ABLATE_RAW_DATA"]) / f"pretrained/cifar10_resnet{weights}.npz"
    found = evaluate_checkpoint(
        None,
        os.environ["ABLATE_DATA_DIR"],
        {
            "init_from": str(path),
            "model.name": f"resnet{weights[:2]}",
            "data.name": "cifar10",
            "data.normalize": "imagenet",
        },
    )
    assert (found.predictions != found.labels).sum() == PUBLISHED[weights]
    assert len(found.labels) == 10_000
    assert (tmp_path / f"runs/published/resnet{weights[:2]}-cifar10/evaluation/roc.png").exists()


def test_a_head_drawn_afresh_is_not_evaluated():
    with pytest.raises(UserError, match=r"transfer\.replace_head: found True"):
        evaluate_checkpoint(None, None, {"init_from": "a.npz", "transfer.replace_head": True})
