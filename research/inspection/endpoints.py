"""The endpoints of a model: which there are, one by its name, and a model cut open at one.

Here and beside, `apply(variables, images) → (outputs, endpoints)` is a model that evaluates.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.extend.core import Literal

from research.config import UserError, nearest

Apply = Callable[[Any, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]


def named(endpoints: Mapping[str, Any], name: str) -> Any:
    """Return the endpoint of that name.

    Raises:
        UserError: there is none; with those there are, and the nearest.
    """
    if name not in endpoints:
        raise UserError(
            f"--endpoint: found {name!r}, expected one of {', '.join(endpoints)}"
            f"{nearest(name, endpoints)}"
        )
    return endpoints[name]


def shapes(apply: Apply, variables: Any, images: Any) -> dict[str, tuple[int, ...]]:
    """Return the shape of each endpoint for such images, in the model's own order."""
    order: list[str] = []

    def traced(*operands):
        _, endpoints = apply(*operands)
        order.extend(endpoints)  # which leave the tracer in alphabetical order
        return endpoints

    found = jax.eval_shape(traced, variables, images)
    return {name: found[name].shape for name in order if hasattr(found[name], "shape")}


def cut(
    apply: Apply, variables: Any, images: jax.Array, name: str
) -> tuple[jax.Array, Callable[[jax.Array], jax.Array]]:
    """Cut a model open at an endpoint.

    Args:
        apply: of the model.
        variables: of the model.
        images: [N, H, W, C].
        name: of the endpoint.

    Returns:
        The endpoint's value, and the function of it that gives the model's outputs: what comes
        after the endpoint, as the model's jaxpr says, whatever modules it is made of.

    Raises:
        UserError: the model has no such endpoint.
    """
    operands, tree = jax.tree.flatten((variables, images))
    traced = jax.make_jaxpr(lambda *x: apply(*jax.tree.unflatten(tree, x)), return_shape=True)
    closed, results = traced(*operands)
    outputs, endpoints = jax.tree.unflatten(jax.tree.structure(results), closed.jaxpr.outvars)
    place = named(endpoints, name)

    def run(value: jax.Array | None) -> dict[Any, jax.Array]:
        jaxpr = closed.jaxpr
        given = (*jaxpr.constvars, *jaxpr.invars), (*closed.consts, *operands)
        known = dict(zip(*given, strict=True))
        for eqn in jaxpr.eqns:
            inputs = [v.val if isinstance(v, Literal) else known[v] for v in eqn.invars]
            found = eqn.primitive.bind(*inputs, **eqn.primitive.get_bind_params(eqn.params))
            found = found if eqn.primitive.multiple_results else [found]
            known.update(zip(eqn.outvars, found, strict=True))
            if value is not None and place in eqn.outvars:
                known[place] = value
        return known

    return run(None)[place], lambda value: run(value)[outputs]
