"""Variables of `Recurrent` ↔ state dicts of `torch.nn.RNN`, `LSTM` and `GRU`.

| torch | here |
|---|---|
| weight_ih_l0 [gates·H, D] | layer1_forward/input_kernel [D, gates·H] |
| weight_hh_l0 [gates·H, H] | layer1_forward/recurrent_kernel [H, gates·H] |
| bias_ih_l0, bias_hh_l0 | layer1_forward/input_bias, recurrent_bias |
| weight_ih_l1_reverse | layer2_backward/input_kernel |

The gates' order is the same.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from research.config import UserError
from research.transfer.torch_layout import nearest_tensor, without_prefix

CELLS = {1: "RNN", 3: "GRU", 4: "LSTM"}  # by the number of gates

LEAVES = {
    "input_kernel": "weight_ih",
    "recurrent_kernel": "weight_hh",
    "input_bias": "bias_ih",
    "recurrent_bias": "bias_hh",
}


def rnn_from_torch(state_dict: Mapping[str, Any], dtype: Any = jnp.float32) -> dict[str, Any]:
    """Return the variables of a `Recurrent` that computes what a recurrent module of torch does.

    Depth, directions and whether there are biases are read off the names, and the kind of cell off
    the shapes; the network that takes them is made with the same: a GRU's as `Recurrent("gru", H,
    num_layers=…, bidirectional=…, use_bias=…)`, with the default `reset_after=True`. Dropout, the
    `nonlinearity` of an RNN and `batch_first` leave no trace in a state dict.

    Args:
        state_dict: name → array (anything that NumPy reads) of a `torch.nn.RNN`, `LSTM` or `GRU`,
            also with the prefix `module.` of a DataParallel model.
        dtype: of the parameters.

    Raises:
        UserError: one that lists every tensor that is missing, misshapen or too many.

    Example:
        >>> import jax
        >>> from research.models.rnn import Recurrent
        >>> fresh = Recurrent("lstm", 4, bidirectional=True).init(
        ...     jax.random.key(0), jnp.zeros((1, 2, 3)))
        >>> weights = rnn_to_torch(fresh)
        >>> sorted(weights)[-1], weights["weight_ih_l0_reverse"].shape
        ('weight_ih_l0_reverse', (16, 3))
        >>> variables = rnn_from_torch(weights)
        >>> variables["params"]["layer1_backward"]["input_kernel"].shape
        (3, 16)
    """
    state = without_prefix(state_dict)
    found = {name: tuple(np.shape(value)) for name, value in state.items()}
    expected = _expected(found)
    absent = {name: shape for name, (_, shape) in expected.items() if name not in found}
    spare = {name: shape for name, shape in found.items() if name not in expected}
    problems = [
        f"  missing: {name} {list(shape)}{nearest_tensor(name, shape, spare)}"
        for name, shape in absent.items()
    ]
    problems += [
        f"  misshapen: {name}: found {list(found[name])}, expected {list(shape)}"
        for name, (_, shape) in expected.items()
        if name in found and found[name] != shape
    ]
    problems += [
        f"  too many: {name} {list(shape)}{nearest_tensor(name, shape, absent)}"
        + (", of proj_size, which no cell here has" if name.startswith("weight_hr") else "")
        for name, shape in spare.items()
    ]
    if problems:
        gates = expected["weight_hh_l0"][1][0] // expected["weight_hh_l0"][1][1]
        headline = f"rnn_from_torch: these are not the tensors of a torch.nn.{CELLS[gates]}"
        raise UserError("\n".join([headline, *problems]))
    return unflatten_dict(
        {
            path: jnp.asarray(np.asarray(state[name]).T, dtype)
            for name, (path, _) in expected.items()
        }
    )


def rnn_to_torch(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the state dict from which `rnn_from_torch` makes just these `variables`.

    Args:
        variables: of a `Recurrent` of the cells "rnn", "rnn_relu", "irnn", "lstm" or "gru".

    Raises:
        UserError: they hold what torch's modules do not have: peepholes, norms, another cell.
    """
    state = {}
    for path, array in flatten_dict(dict(variables)).items():
        match = re.fullmatch(r"params/layer(\d+)_(forward|backward)/(\w+)", "/".join(path))
        if not match or match[3] not in LEAVES:
            raise UserError(f"rnn_to_torch: torch's has no counterpart of {'/'.join(path)}")
        reverse = "_reverse" if match[2] == "backward" else ""
        state[f"{LEAVES[match[3]]}_l{int(match[1]) - 1}{reverse}"] = np.asarray(array).T
    return state


def _expected(found: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[tuple, tuple[int, ...]]]:
    """Return torch's name → path here and shape there, for the module that these tensors are of."""
    first = next((found[n] for n in ("weight_hh_l0", "weight_hh_l0_reverse") if n in found), ())
    if len(first) != 2 or first[0] not in [gates * first[1] for gates in CELLS]:
        raise UserError(
            f"rnn_from_torch: found weight_hh_l0 {list(first) or 'missing'} among "
            f"{', '.join(found) or 'no tensors'}; expected the state dict of a torch.nn.RNN, LSTM "
            "or GRU alone, with weight_hh_l0 [1, 4 or 3 times H, H]"
        )
    width, hidden = first
    layers = [int(match[1]) for match in map(re.compile(r".*_l(\d+)").match, found) if match]
    directions = [""] + ["_reverse"] * any(name.endswith("_reverse") for name in found)
    leaves = [
        leaf
        for leaf in LEAVES
        if leaf.endswith("kernel") or any(name.startswith("bias_") for name in found)
    ]
    features = next(
        (
            found[n][-1]
            for n in ("weight_ih_l0", "weight_ih_l0_reverse")
            if len(found.get(n, ())) > 1
        ),
        hidden,
    )
    expected = {}
    for layer in range(max(layers) + 1):
        for direction in directions:
            inputs = hidden * len(directions) if layer else features
            shapes = (width, inputs), (width, hidden), (width,), (width,)
            for leaf, shape in zip(LEAVES, shapes, strict=True):
                if leaf in leaves:
                    module = f"layer{layer + 1}_{'backward' if direction else 'forward'}"
                    name = f"{LEAVES[leaf]}_l{layer}{direction}"
                    expected[name] = ("params", module, leaf), shape
    return expected
