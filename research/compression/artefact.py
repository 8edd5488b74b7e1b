"""A network in one `.safetensors` file, as small as its bits."""

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import qwix
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from research.compression.calibration import RANGES
from research.compression.quantization import is_quantized, quantize, signal_to_noise
from research.config import UserError
from research.files import write
from research.transfer.files import KIND, quantized_kind

PACKED = ("binary", "int4", "bfloat16")  # what NumPy's safetensors cannot hold as it is


def encode(variables: Any, kind: str) -> bytes:
    """Return the bytes of a file that holds `variables`, their parameters as `quantize` gave them.

    A quantised kernel is two tensors, `params/conv1/kernel` and its `….scale`; two weights of four
    bits, and eight signs, share a byte.
    """
    tensors, layout = _tensors(variables, kind)
    return safetensors.numpy.save(tensors, {KIND: kind, "layout": json.dumps(layout)})


def footprint(path: Path, variables: Any, kind: str) -> dict[str, float]:
    """Quantise a network and write it to `path`; return what it takes.

    That is `size/disk_kb`, of the file; `size/share`, of the size of the same in float32;
    `size/parameters_kb`, of its arrays alone; the signal-to-noise ratio of each quantised kernel as
    `snr_db/<kernel>`, and as `snr_db` the lowest.

    Args:
        path: ends in `.safetensors`.
        variables: in floats, arrays of the host.
        kind: as `quantize` takes it.
    """
    small = variables | {"params": quantize(variables["params"], kind)}
    floats = {name: part for name, part in variables.items() if name != RANGES}
    size = save(path, small, kind)
    noise = signal_to_noise(variables["params"], kind)
    return {
        "size/disk_kb": size / 1e3,
        "size/share": size / len(encode(floats, "float32")),
        "size/parameters_kb": payload(small, kind) / 1e3,
        **({"snr_db": min(noise.values())} if noise else {}),
        **{f"snr_db/{name}": value for name, value in noise.items()},
    }


def payload(variables: Any, kind: str) -> int:
    """Return the bytes of such a file's tensors alone."""
    return sum(tensor.nbytes for tensor in _tensors(variables, kind)[0].values())


def _tensors(variables: Any, kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the tensors by name, and of those in `PACKED` how they are stored and their shape."""
    tensors, layout = {}, {}
    for path, x in flatten_dict(variables).items():
        name = "/".join(path)
        if is_quantized(x):
            tensors[f"{name}.scale"] = np.asarray(x.scale)
            x = np.asarray(x.qvalue)
            stored = "binary" if kind in ("binary", "xnor") else x.dtype.name
        else:
            x = np.asarray(x)
            stored = x.dtype.name
        if stored in PACKED:
            layout[name] = [stored, list(x.shape)]
        tensors[name] = _pack(x, stored)
    return tensors, layout


def save(path: Path, variables: Any, kind: str) -> int:
    """Write such a file; return its size in bytes."""
    contents = encode(variables, kind)
    write(path, contents)
    return len(contents)


def load(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the kind and the variables that `save` was given, exactly.

    Raises:
        UserError: it is not such a file, or damaged.
    """
    kind = quantized_kind(path)
    if kind is None:
        raise UserError(f"{path}: expected a network that was saved here, found other tensors")
    try:
        with safetensors.safe_open(path, "numpy") as file:
            layout = json.loads(file.metadata()["layout"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: expected a whole .safetensors file, found {error}") from None
    flat = {}
    for name, x in tensors.items():
        if name.endswith(".scale"):
            continue
        x = _unpack(x, *layout[name]) if name in layout else x
        if f"{name}.scale" in tensors:
            x = qwix.QArray(jnp.asarray(x), jnp.asarray(tensors[f"{name}.scale"]))
        flat[tuple(name.split("/"))] = x
    return kind, unflatten_dict(flat)


def _pack(x: np.ndarray, stored: str) -> np.ndarray:
    if stored == "binary":
        return np.packbits(x.reshape(-1) > 0)
    if stored == "int4":
        codes = np.append(x.reshape(-1).astype(np.int8) & 15, [0] * (x.size % 2)).astype(np.uint8)
        return codes[::2] | codes[1::2] << 4
    return np.ascontiguousarray(x.view(np.uint16) if stored == "bfloat16" else x)


def _unpack(x: np.ndarray, stored: str, shape: list[int]) -> np.ndarray:
    if stored == "binary":
        signs = np.unpackbits(x, count=int(np.prod(shape)))
        return np.where(signs, 1, -1).astype(np.int8).reshape(shape)
    if stored == "int4":
        codes = np.stack([x & 15, x >> 4], -1).reshape(-1)[: int(np.prod(shape))]
        signed = np.where(codes > 7, codes.astype(np.int8) - 16, codes)
        return signed.astype(ml_dtypes.int4).reshape(shape)
    return x.view(ml_dtypes.bfloat16)
