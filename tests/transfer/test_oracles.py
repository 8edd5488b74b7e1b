"""Every architecture of torchvision and timm that is recorded, against what it computed there.

`ABLATE_ORACLES` names a folder of `tv_*.npz` and `timm_*.npz`: the names and shapes of a state
dict, and the logits that it gave once refilled by `refill` from its names.
"""

import ast
import os
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest

from research.models import create_model
from research.transfer import from_torch, to_torch

MODELS = {
    "tv_alexnet": "alexnet",
    "tv_vgg16": "vgg16",
    "tv_resnet18": "resnet18",
    "tv_resnet50": "resnet50",
    "tv_googlenet": "googlenet",
    "tv_inception_v3": "inception_v3",
    "tv_mobilenet_v2": "mobilenet_v2",
    "timm_inception_v4": "inception_v4",
    "timm_legacy_xception": "xception",
    "timm_mobilenetv1_100": "mobilenet_v1",
}


def refill(names, shapes):
    """A state dict whose every number follows from its tensor's name."""
    state = {}
    for name, shape in zip(names, shapes, strict=True):
        draw = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
        if name.endswith("num_batches_tracked"):
            state[name] = np.zeros((), np.int64)
            continue
        if name.endswith("running_mean"):
            value = 0.1 * draw
        elif name.endswith("running_var"):
            value = 1 + 0.5 * np.tanh(draw)
        elif len(shape) == 1:
            value = (1 if name.endswith("weight") else 0) + 0.1 * draw
        else:
            value = draw * np.sqrt(2 / np.prod(shape[1:]))
        state[name] = value.astype(np.float32)
    return state


@pytest.mark.skipif("ABLATE_ORACLES" not in os.environ, reason="ABLATE_ORACLES is not set")
@pytest.mark.parametrize("oracle", MODELS)
def test_logits_parameters_and_round_trip(oracle):
    with np.load(Path(os.environ["ABLATE_ORACLES"]) / f"{oracle}.npz") as file:
        record = {key: file[key] for key in file.files}
    shapes = [ast.literal_eval(shape) for shape in record["shapes"].tolist()]
    state, side = refill(record["names"].tolist(), shapes), int(record["side"])
    variables = from_torch(MODELS[oracle], state)
    assert sum(p.size for p in jax.tree.leaves(variables["params"])) == record["parameters"]

    images = np.random.RandomState(0).standard_normal((2, 3, side, side)).astype(np.float32)
    model = create_model(MODELS[oracle])
    logits, _ = model.apply(variables, images.transpose(0, 2, 3, 1), train=False)
    expected = record["logits"]
    assert np.abs(logits - expected).max() <= 1e-3 * np.abs(expected[0] - expected[1]).max()

    back = to_torch(MODELS[oracle], variables)
    assert back.keys() == state.keys()
    for name, tensor in state.items():
        np.testing.assert_array_equal(back[name], tensor, name)
