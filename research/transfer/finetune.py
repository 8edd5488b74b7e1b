"""Fine-tuning: what the optimiser does to frozen, slow and not yet unfrozen parameters."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from research.transfer import patterns

NEVER = None  # the first step of what is frozen


class GateState(NamedTuple):
    """How many steps have been taken."""

    count: jax.Array


def fine_tuning(
    transfer: ConfigDict, layers: Sequence[str]
) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
    """Return what comes before clipping and what comes last in the optimiser, for `transfer`.

    A frozen parameter has no gradient, so that it has no share in the norm that is clipped and no
    momentum, and no update, whatever decay adds on the way. Adaptive methods start their averages
    at the first step of the run, so that the first updates of a layer that is unfrozen later are
    larger than usual.

    Args:
        transfer: `config.transfer`.
        layers: paths of the modules in the network's order, for gradual unfreezing.

    References:
        J. Howard, S. Ruder, Universal Language Model Fine-tuning for Text Classification, ACL 2018,
        §3.3: gradual unfreezing, from the last layer down.
    """
    if not (transfer.freeze or transfer.unfreeze_every or transfer.rates):
        return optax.identity(), optax.identity()

    def first_step(params: Any) -> Any:
        paths = [spell(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
        patterns.check(transfer.freeze, transfer.rates, paths)
        starts = {}
        if transfer.unfreeze_every:
            groups = enumerate(reversed(unfreezing_groups(params, layers)))
            starts = {name: i * transfer.unfreeze_every for i, names in groups for name in names}

        def of(path, _):
            path = spell(path)
            frozen = patterns.is_frozen(transfer.freeze, path)
            return NEVER if frozen else starts.get(path.partition("/")[0], 0)

        return jax.tree_util.tree_map_with_path(of, params)

    rates = optax.stateless(
        lambda updates, _: jax.tree_util.tree_map_with_path(
            lambda path, u: u * patterns.rate_of(transfer.rates, spell(path)), updates
        )
    )
    return gate(first_step), optax.chain(rates, gate(first_step))


def gate(first_step: Callable[[Any], Any]) -> optax.GradientTransformation:
    """Zero the update of each parameter before its first step, or always where that is `NEVER`.

    Args:
        first_step: params → the number of each one's first step, from 0, in the same tree.
    """

    def update(updates, state, params=None):
        def through(u, first):
            if first is NEVER:
                return jnp.zeros_like(u)
            return jnp.where(state.count >= first, u, 0) if first else u

        leaves, tree = jax.tree.flatten(updates)
        first = jax.tree.leaves(first_step(updates), is_leaf=lambda leaf: leaf is NEVER)
        gated = [through(u, f) for u, f in zip(leaves, first, strict=True)]
        return tree.unflatten(gated), GateState(state.count + 1)

    def init(params):
        first_step(params)  # checks the patterns
        return GateState(jnp.zeros((), jnp.int32))

    return optax.GradientTransformation(init, update)


def unfreezing_groups(params: Any, layers: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the outermost modules in the network's order, as they are unfrozen together.

    A module without a kernel, such as a norm, belongs to the layer before it.

    Example:
        >>> kernel, scale = jnp.zeros((2, 2)), jnp.zeros(2)
        >>> params = {"head": {"kernel": kernel}, "norm": {"scale": scale}, "stem": {"k": kernel}}
        >>> unfreezing_groups(params, ["stem", "norm", "head"])
        [('stem', 'norm'), ('head',)]
    """
    groups: list[tuple[str, ...]] = []
    for name in dict.fromkeys(layer.partition("/")[0] for layer in layers):
        if groups and all(leaf.ndim < 2 for leaf in jax.tree.leaves(params[name])):
            groups[-1] += (name,)
        else:
            groups.append((name,))
    return groups


def spell(path: Sequence[Any]) -> str:
    """Name a parameter by its path in the tree: `stage1_block1/conv1/kernel`."""
    return "/".join(str(key.key) for key in path)
