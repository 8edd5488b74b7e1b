"""A model as one file that any JAX runs, without this code: its operations and its numbers."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax import export as jax_export

from research.distributed.platform import traced_for

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
BATCH = "b"  # the name of the first dimension, which can be of any size


def exported(
    function: Callable[[Any, dict[str, jax.Array]], dict[str, jax.Array]],
    variables: Any,
    inputs: Mapping[str, jax.ShapeDtypeStruct],
) -> jax_export.Exported:
    """Return `function(variables, ·)` as StableHLO, for any number of rows and on any platform.

    Args:
        function: of a model's variables and a dict of arrays whose first dimension is the batch's.
        variables: become constants of the program.
        inputs: each without its first dimension.

    Returns:
        What `jax.export` serialises, in a format that later versions of JAX read as well:

            program = exported(task.answer, variables, {"image": ShapeDtypeStruct((8, 8, 1), "u1")})
            path.write_bytes(program.serialize())
            jax.export.deserialize(path.read_bytes()).call({"image": images})["outputs"]
    """
    rows = jax_export.symbolic_shape(BATCH)
    shapes = {name: jax.ShapeDtypeStruct(rows + s.shape, s.dtype) for name, s in inputs.items()}
    with traced_for("any"):  # no path that only one platform gains by
        program = jax_export.export(
            jax.jit(lambda batch: function(variables, batch)), platforms=PLATFORMS
        )
        return program(shapes)


def described(program: jax_export.Exported) -> dict[str, Any]:
    """Return, as JSON, what a program takes and gives: name → shape and dtype."""
    (given,), _ = jax.tree.unflatten(program.in_tree, program.in_avals)
    answer = jax.tree.unflatten(program.out_tree, program.out_avals)

    def facts(avals):
        return {
            name: {
                "shape": [d if isinstance(d, int) else str(d) for d in a.shape],
                "dtype": str(a.dtype),
            }
            for name, a in avals.items()
        }

    return {"inputs": facts(given), "outputs": facts(answer)}
