"""The quantised MobileNet v2 in the model here, against an interpreter of its own graph."""

import io
import json
import os
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from jax import lax
from PIL import Image

from research.models import create_model
from research.transfer import from_torch, load_weights
from research.transfer.quantized import SWITCHES, dequantize

RAW = Path(os.environ.get("ABLATE_RAW_DATA", ""))

pytestmark = pytest.mark.skipif(
    "ABLATE_RAW_DATA" not in os.environ, reason="ABLATE_RAW_DATA is not set"
)


@pytest.fixture(scope="module")
def tensors():
    return load_weights(RAW / "pretrained/mobilenet_v2_1.0_224_quant_unpacked.npz")


@pytest.fixture(scope="module")
def photos():
    """Sixteen daisies, [N, 224, 224, 3], as the network wants them."""
    with zipfile.ZipFile(RAW / "flowers128/flowers128_jpg.zip") as archive:
        names = [n for n in archive.namelist() if n.startswith("flowers/daisy/")][:16]
        images = [Image.open(io.BytesIO(archive.read(name))).resize((224, 224)) for name in names]
    return (np.stack([np.asarray(image, np.float32) for image in images]) - 128) / 128


def interpret(tensors, images, quantize):
    """Run the graph as it is written; `quantize`: with activations of eight bits, as on a phone."""
    graph = json.loads(bytes(tensors["graph_json"]))
    values = {graph["input"]: images}
    for node in graph["layers"]:
        if "name" in node:
            name, x = node["name"], values[node["inp"]]
            code = tensors[f"{name}_w_q"].astype(np.float64)
            kernel = (code - tensors[f"{name}_w_zero"]) * tensors[f"{name}_w_scale"]
            depthwise = node["op"] == "DEPTHWISE_CONV_2D"
            y = lax.conv_general_dilated(
                x,
                kernel.astype(np.float32),
                (node["stride"],) * 2,
                "SAME",
                dimension_numbers=("NHWC", "IHWO" if depthwise else "OHWI", "NHWC"),
                feature_group_count=x.shape[-1] if depthwise else 1,
            )
            y = np.asarray(y) + tensors[f"{name}_b"]
            y = np.clip(y, 0, 6) if node["relu6"] else y
        elif node["op"] == "ADD":
            y = values[node["inp"][0]] + values[node["inp"][1]]
        elif node["op"] == "AVERAGE_POOL_2D":
            y = values[node["inp"][0]].mean((1, 2), keepdims=True)
        elif node["op"] == "RESHAPE":
            return values[node["inp"][0]][:, 0, 0]
        if quantize and "out_scale" in node:
            scale, zero = node["out_scale"], node["out_zero"]
            y = (np.clip(np.round(y / scale) + zero, 0, 255) - zero) * scale
        values[node["out"]] = y.astype(np.float32)
    raise AssertionError("the graph has no logits")


def test_it_agrees_with_its_own_graph(tensors, photos):
    variables = from_torch("mobilenet_v2", dequantize(tensors), **SWITCHES)
    model = create_model("mobilenet_v2", **SWITCHES)
    logits = np.asarray(jax.jit(model.apply)(variables, photos)[0])

    exact = interpret(tensors, photos, quantize=False)
    np.testing.assert_allclose(logits, exact, atol=1e-4 * np.abs(exact).max())

    coded = interpret(tensors, photos, quantize=True)
    spread = coded.std(axis=1, keepdims=True)
    assert np.sqrt(np.mean(((logits - coded) / spread) ** 2)) < 0.3
    assert np.mean(logits.argmax(1) == coded.argmax(1)) >= 0.8

    labels = (RAW / "pretrained/imagenet_labels.txt").read_text().splitlines()
    assert labels[logits.mean(axis=0).argmax()] == "daisy"
