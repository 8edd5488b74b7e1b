"""Which part of which array a device holds: ordered (pattern, spec) rules, as data.

A spec has an entry for each dimension of an array: the axis (or axes) of the mesh that split it, or
None. Of the rules whose pattern is found in an array's path and whose spec has its dimensions, the
first applies that uses the mesh wholly; where none does, that which cuts the array into most parts.
What no rule names is replicated.
"""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from research.config import UserError
from research.distributed.mesh import AXES, BATCH

Spec = tuple[str | tuple[str, ...] | None, ...]
Rules = tuple[tuple[str, Spec], ...]

BOTH = ("fsdp", "model")
LARGE = 2**18  # numbers: a parameter of so many is not left replicated unasked

# A kernel's inputs are split by `fsdp`, its outputs by `model`, as far as they divide: images have
# three channels, and classes come in any number.
DENSE: Rules = (
    (r"kernel$", ("fsdp", "model")),
    (r"kernel$", (None, BOTH)),
    (r"kernel$", (BOTH, None)),
    (r"kernel$", ("model", "fsdp")),
)
CONVOLUTIONAL: Rules = (
    (r"kernel$", (None, None, "fsdp", "model")),
    (r"kernel$", (None, None, None, BOTH)),
    (r"kernel$", (BOTH, None, None, None)),  # locally connected: by the place
    *DENSE,
)
RECURRENT: Rules = (
    # The state in which a batch of streams leaves a model has a row for each of its rows.
    (r"(^|/)carry/", (None, BATCH, None)),
    # Tied to the output, the vocabulary is what the logits are split by.
    (r"embedding$", ("model", "fsdp")),
    (r"embedding$", (BOTH, None)),
    (r"embedding$", (None, BOTH)),
    (r"kernel$", (None, "fsdp", "model")),
    (r"kernel$", (None, BOTH, None)),
    *DENSE,
)

# By the name of the model; all others are convolutional.
RULES: dict[str, Rules] = {
    "mlp": DENSE,
    "linear": DENSE,
    "recurrent": RECURRENT,
    "seq2seq": RECURRENT,
}


def rules_of(model: str) -> Rules:
    """Return the rules of the family that the model of that name belongs to."""
    return RULES.get(model, CONVOLUTIONAL)


def spec_of(path: str, shape: Sequence[int], mesh: Mesh, rules: Rules) -> PartitionSpec:
    """Return how an array is split over `mesh`.

    Args:
        path: of the array, its names joined by slashes; the optimiser's copies of a parameter end
            in the parameter's own path, and so are split as it is.
        shape: of the array.
        mesh: with the axes of `research.distributed.mesh`; those of size 1 split nothing.
        rules: in order.

    Example:
        >>> spec_of("params/conv1/kernel", (3, 3, 64, 128), mesh, CONVOLUTIONAL)
        PartitionSpec(None, None, 'fsdp', 'model')
    """
    best, most = PartitionSpec(), 1
    for pattern, spec in rules:
        if len(spec) != len(shape) or not re.search(pattern, path):
            continue
        split = [
            axes if axes and size % _parts(axes, mesh) == 0 else None
            for axes, size in zip(spec, shape, strict=True)
        ]
        parts = math.prod(_parts(axes, mesh) for axes in split)
        if parts > most:
            best, most = PartitionSpec(*split), parts
        if parts == math.prod(_parts(axes, mesh) for axes in spec):
            break
    return best


def _parts(axes: str | tuple[str, ...] | None, mesh: Mesh) -> int:
    return math.prod(mesh.shape[name] for name in _names(axes))


def _names(axes: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (axes,) if isinstance(axes, str) else axes or ()


def shardings(tree: Any, mesh: Mesh, rules: Rules) -> Any:
    """Return the `NamedSharding` of each array, or shape, of a tree such as a train state."""
    return jax.tree_util.tree_map_with_path(
        lambda path, x: NamedSharding(mesh, spec_of(name_of(path), x.shape, mesh, rules)), tree
    )


def name_of(path: Iterable[Any]) -> str:
    """Return a path within a tree as names joined by slashes."""
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def local_bytes(tree: Any) -> int:
    """Return the bytes that each device holds of a tree of arrays, or of shapes with shardings."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree)
    )


def check_split(params: Any, mesh: Mesh, rules: Rules, allowed: Sequence[str] = ()) -> None:
    """Check that the mesh splits the parameters as it is meant to.

    Args:
        params: arrays or their shapes.
        mesh: of a run.
        rules: of its model.
        allowed: patterns of the large parameters that may be replicated.

    Raises:
        UserError: an axis that splits no parameter, or a large parameter that none splits.
    """
    wanted = [axis for axis in AXES if axis != "data" and mesh.shape[axis] > 1]
    if not wanted:
        return
    used, sizes = set(), {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        spec = spec_of(name_of(path), leaf.shape, mesh, rules)
        used |= {axis for axes in spec for axis in _names(axes)}
        if not any(spec):
            sizes[name_of(path)] = math.prod(leaf.shape)
    for axis in wanted:
        if axis not in used:
            raise UserError(
                f"--mesh: found {axis}:{mesh.shape[axis]}, which divides no kernel of the model, "
                f"expected {axis}:1, or a divisor of its channels or units"
            )
    split = ", ".join(f"{axis}:{mesh.shape[axis]}" for axis in wanted)
    for path, size in sizes.items():
        if size >= LARGE and not any(re.search(pattern, path) for pattern in allowed):
            raise UserError(
                f"--mesh: {path}, {size:,} numbers, would be whole on each device in spite of "
                f"{split}; expected a mesh that divides it, or its name among train.replicate"
            )
