"""Variables ↔ torch state dicts: the same numbers under other names, their axes in another order.

| | torch | here |
|---|---|---|
| convolution, also depthwise | [O, I/groups, H, W] | [H, W, I/groups, O] |
| dense | [O, I] | [I, O] |
| dense after a flattened map | [O, C·H·W] | [H·W·C, O] |
| norm | weight, bias, running_mean, running_var | scale, bias; mean, var in `batch_stats` |
"""

import difflib
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from research.config import UserError
from research.models import create_model
from research.transfer.torch_names import torch_names

LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}

COUNTER = "num_batches_tracked"  # torch's batch norm counts its steps; nothing reads the count


def from_torch(
    name: str,
    state_dict: Mapping[str, Any],
    *,
    strict: bool = True,
    say: Callable[[str], None] = print,
    **switches: Any,
) -> dict[str, Any]:
    """Return `create_model(name, **switches)`'s variables with a torch state dict's numbers.

    Args:
        name: of the model.
        state_dict: name → array (anything that NumPy reads), as torchvision, timm or, for the
            CIFAR ResNets, github.com/akamaster/pytorch_resnet_cifar10 name them; also with the
            prefix `module.` of a DataParallel model.
        strict: whether every tensor has to be there, in its shape, and no other. Without, what does
            not fit is left out, and what is then missing has its initial value from key 0.
        say: called with the names of what was left out.
        switches: of the model.

    Returns:
        `{"params": …}`, and `"batch_stats"` of a model with batch norm, in the model's
        `param_dtype`.

    Raises:
        UserError: an unknown model or switch; or, if `strict`, one that lists every tensor that is
            missing, misshapen or too many.

    Example:
        >>> import numpy as np
        >>> fresh = create_model("resnet20").init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
        >>> weights = to_torch("resnet20", fresh)
        >>> weights["layer2.0.conv1.weight"].shape
        (32, 16, 3, 3)
        >>> variables = from_torch("resnet20", weights)
        >>> variables["params"]["stage2_block1"]["conv1"]["kernel"].shape
        (3, 3, 16, 32)
    """
    model = create_model(name, **switches)
    example = jax.ShapeDtypeStruct((1, *model.input_shape), jnp.float32)
    fresh = jax.eval_shape(model.init, jax.random.key(0), example)
    variables, problems = convert(name, model, fresh, state_dict)
    if problems and strict:
        raise misfit(name, problems)
    if problems:
        say(f"{name}: left out what does not fit\n" + "\n".join(problems))
        fresh = jax.jit(model.init)(jax.random.key(0), jnp.zeros(example.shape))
        return overlay(fresh, variables)
    return variables


def to_torch(name: str, variables: Mapping[str, Any], **switches: Any) -> dict[str, np.ndarray]:
    """Return the state dict from which `from_torch` makes just these `variables`.

    The counters of batch norm's steps, which torch's own loading expects, are written as 0.

    Args:
        name: of the model.
        variables: as its `init` returns them.
        switches: of the model.

    Raises:
        UserError: an unknown model or switch, or a parameter that torch's model does not have.
    """
    state = {}
    arrays = flatten_dict(dict(variables))
    for slot in _slots(name, create_model(name, **switches), variables):
        if slot.name is None:
            raise UserError(f"to_torch: {name}: torch's has no counterpart of {slot}")
        state[slot.name] = slot.outward(np.asarray(arrays[slot.path]))
        if slot.path[-1] == "var":
            state[slot.name.replace("running_var", COUNTER)] = np.zeros((), np.int64)
    return state


class Slot(NamedTuple):
    """One array of the variables, and what it is in torch.

    Attributes:
        path: ("params", "stem", "kernel").
        shape: here.
        name: there; None where torch's model has no such tensor.
        side: of the flattened map that it reads, 0 for any other.
    """

    path: tuple[str, ...]
    shape: tuple[int, ...]
    name: str | None
    side: int

    def __str__(self) -> str:
        return f"{'/'.join(self.path)} {list(self.shape)}"

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """The shape there."""
        if len(self.shape) == 4:
            height, width, inputs, outputs = self.shape
            return outputs, inputs, height, width
        return self.shape[::-1]

    def inward(self, array: Any) -> Any:
        """Reorder the axes from torch's order."""
        if array.ndim == 4:
            return array.transpose(2, 3, 1, 0)
        if array.ndim == 2 and self.side:
            out = array.shape[0]
            maps = array.reshape(out, -1, self.side, self.side)
            return maps.transpose(2, 3, 1, 0).reshape(-1, out)
        return array.T

    def outward(self, array: Any) -> Any:
        """Reorder the axes to torch's order."""
        if array.ndim == 4:
            return array.transpose(3, 2, 0, 1)
        if array.ndim == 2 and self.side:
            out = array.shape[1]
            maps = array.reshape(self.side, self.side, -1, out)
            return maps.transpose(3, 2, 0, 1).reshape(out, -1)
        return array.T


def _slots(name: str, model: nn.Module, variables: Mapping[str, Any]) -> list[Slot]:
    find, slots = torch_names(name, model), []
    for path, array in flatten_dict(dict(variables)).items():
        module, side = find("/".join(path[1:-1])) or (None, 0)
        leaf = LEAVES.get(path[-1])
        torch_name = f"{module}.{leaf}" if module and leaf else None
        slots.append(Slot(path, array.shape, torch_name, side if path[-1] == "kernel" else 0))
    return slots


def convert(
    name: str,
    model: nn.Module,
    fresh: Mapping[str, Any],
    state_dict: Mapping[str, Any],
    *,
    leave: Callable[[tuple[str, ...]], bool] = lambda path: False,
) -> tuple[dict[str, Any], list[str]]:
    """Return the variables that `state_dict` holds, in the dtypes of `fresh`, and what is wrong.

    Args:
        name: of the model.
        model: itself.
        fresh: its variables, or their shapes.
        state_dict: as `from_torch` takes it.
        leave: says of a path whether its array is not wanted, whatever `state_dict` has of it.

    Returns:
        The variables, without those that are missing or misshapen; and a line for each of these,
        and for each tensor too many.
    """
    state = without_prefix(state_dict)
    shapes = {key: tuple(np.shape(value)) for key, value in state.items()}
    slots = _slots(name, model, fresh)
    known = {slot.name for slot in slots}
    spare = {k: v for k, v in shapes.items() if k not in known and not k.endswith(COUNTER)}
    dtypes = {path: leaf.dtype for path, leaf in flatten_dict(dict(fresh)).items()}
    found, problems = {}, []
    slots = [slot for slot in slots if not leave(slot.path)]
    for slot in slots:
        if slot.name is None:
            problems.append(f"  missing: {slot}, of which torch's model has no counterpart")
        elif slot.name not in state:
            near = nearest_tensor(slot.name, slot.torch_shape, spare)
            problems.append(f"  missing: {slot.name} {list(slot.torch_shape)}{near}")
        elif shapes[slot.name] != slot.torch_shape:
            problems.append(
                f"  misshapen: {slot.name}: found {list(shapes[slot.name])}, expected "
                f"{list(slot.torch_shape)}"
            )
        else:
            array = slot.inward(np.asarray(state[slot.name]))
            found[slot.path] = jnp.asarray(array, dtypes[slot.path])
    absent = {slot.name: slot.torch_shape for slot in slots if slot.name and slot.name not in state}
    for key, shape in spare.items():
        problems.append(f"  too many: {key} {list(shape)}{nearest_tensor(key, shape, absent)}")
    return unflatten_dict(found), problems


def misfit(name: str, problems: list[str]) -> UserError:
    """The error that lists all `problems` of `convert`; a long list is summed up at its end too."""
    kinds = [line.split(":")[0].strip() for line in problems]
    counts = [f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)]
    headline = f"the weights do not fit model.name={name!r}: of its tensors {', '.join(counts)}"
    lines = [headline, *problems, *([headline] if len(problems) > 20 else [])]
    return UserError("\n".join(lines))


def overlay(fresh: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return `fresh` with the leaves that `variables` has in their stead."""
    return unflatten_dict(flatten_dict(dict(fresh)) | flatten_dict(dict(variables)))


def without_prefix(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    if not (isinstance(state_dict, Mapping) and all(isinstance(key, str) for key in state_dict)):
        raise UserError(
            f"from_torch: found a {type(state_dict).__name__}, expected a mapping of names to "
            "arrays, as load_weights(path) returns"
        )
    prefix = "module."  # torch.nn.DataParallel's
    wrapped = state_dict and all(key.startswith(prefix) for key in state_dict)
    return {key.removeprefix(prefix) if wrapped else key: v for key, v in state_dict.items()}


def nearest_tensor(name: str, shape: tuple[int, ...], among: Mapping[str, tuple[int, ...]]) -> str:
    """Return `; nearest: x.weight [2, 3]` of the tensors (name → shape) that have the same last
    name and as many axes: the only one of the same shape, or else the one whose layer has the most
    similar name; of all of the same shape where that is none, the one with the most similar name.
    """
    layer, _, leaf = name.rpartition(".")
    same = [other for other, its in among.items() if its == shape]
    alike = [other for other in same if other.rpartition(".")[2] == leaf]
    if len(alike) != 1:
        ranked = [
            other
            for other, its in among.items()
            if other.rpartition(".")[2] == leaf and len(its) == len(shape)
        ]
        layers = tuple(other.rpartition(".")[0] for other in ranked)
        alike = [f"{near}.{leaf}" for near in _similar(layer, layers)]
    alike = alike or _similar(name, tuple(same))
    return f"; nearest: {alike[0]} {list(among[alike[0]])}" if alike else ""


@functools.lru_cache(maxsize=4096)
def _similar(name: str, names: tuple[str, ...]) -> list[str]:
    return difflib.get_close_matches(name, names, n=1, cutoff=0.6)
