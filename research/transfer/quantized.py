"""MobileNet v2 as TensorFlow Lite quantised it: eight bits a weight (Jacob et al. 2018, eq. 1)."""

import json
from collections.abc import Iterator, Mapping

import numpy as np

# The network that the dequantised weights are of: batch norm is folded into the convolutions, and
# TensorFlow pads below and to the right. (The first of its 1001 classes is "background".)
SWITCHES = {"norm": "none", "padding": "same_upper", "num_classes": 1001}


def is_quantized(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether `tensors` are those of a TensorFlow Lite graph, as `dequantize` takes them."""
    return "graph_json" in tensors


def dequantize(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the state dict, in torchvision's names and layout, of a quantised MobileNet v2.

    Args:
        tensors: `graph_json`, whose layers with weights are the network's in order, and of each
            layer L `L_w_q` (uint8 [O, H, W, I], depthwise [1, H, W, C]), `L_w_scale`, `L_w_zero`
            and `L_b` (float [O]).

    Example:
        ```
        weights = dequantize(load_weights("mobilenet_v2_1.0_224_quant_unpacked.npz"))
        variables = from_torch("mobilenet_v2", weights, **SWITCHES)
        ```
    """
    graph = json.loads(tensors["graph_json"].tobytes())
    layers = [layer for layer in graph["layers"] if "name" in layer]
    state = {}
    for name, layer in zip(_names(), layers, strict=True):
        code, scale, zero = (
            tensors[f"{layer['name']}_w_{part}"] for part in ("q", "scale", "zero")
        )
        weight = (code.astype(np.float32) - zero) * scale
        axes = (3, 0, 1, 2) if layer["op"] == "DEPTHWISE_CONV_2D" else (0, 3, 1, 2)
        state[f"{name}.weight"] = weight.astype(np.float32).transpose(axes)
        state[f"{name}.bias"] = tensors[f"{layer['name']}_b"]
    state["classifier.1.weight"] = state["classifier.1.weight"][:, :, 0, 0]  # a 1×1 convolution
    return state


def _names() -> Iterator[str]:
    yield from ("features.0.0", "features.1.conv.0.0", "features.1.conv.1")
    for block in range(2, 18):
        yield from (f"features.{block}.conv.{part}" for part in ("0.0", "1.0", "2"))
    yield from ("features.18.0", "classifier.1")
