"""Batch norm in transfer: frozen ones keep their statistics, others take those of a new domain."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from research.transfer.patterns import is_frozen


@contextlib.contextmanager
def each_batch_norm(options: Callable[[tuple[str, ...], jax.Array], dict]) -> Iterator[None]:
    """Within, call every batch norm with `options(path, inputs)` beside its own."""

    def intercept(next_function, arguments, keywords, context):
        if isinstance(context.module, nn.BatchNorm) and context.method_name == "__call__":
            keywords = keywords | options(context.module.path, arguments[0])
        return next_function(*arguments, **keywords)

    with nn.intercept_methods(intercept):
        yield


def frozen_batch_norms(freeze: Sequence[str]):
    """Within, a batch norm whose scale is frozen uses its running averages, and keeps them."""
    if not freeze:
        return contextlib.nullcontext()
    return each_batch_norm(
        lambda path, x: (
            {"use_running_average": True} if is_frozen(freeze, "/".join((*path, "scale"))) else {}
        )
    )


@contextlib.contextmanager
def synchronized_batch_norms(axis: str) -> Iterator[None]:
    """Within a `shard_map` or `pmap`, take each batch norm's statistics over all its devices."""

    def intercept(next_function, arguments, keywords, context):
        if isinstance(context.module, nn.BatchNorm) and context.method_name == "__call__":
            # Flax has it as a field, which models do not set; the module lives for this call only.
            object.__setattr__(context.module, "axis_name", axis)
        return next_function(*arguments, **keywords)

    with nn.intercept_methods(intercept):
        yield


def moments(model: nn.Module, variables: Any, images: jax.Array, mask: jax.Array) -> Any:
    """Return the mean and variance that enter each batch norm, over one batch, as `batch_stats`.

    Each norm normalises by them, as in training; dropout is off, as in evaluation.

    Args:
        model: with batch norm.
        variables: its `params` and `batch_stats`.
        images: as the model takes them, [N, …].
        mask: float[N], 0 for padding, which counts nowhere.
    """

    def options(path, x):
        real = mask.reshape(-1, *(1,) * (x.ndim - 1)) > 0
        return {"use_running_average": False, "mask": real}

    with each_batch_norm(options):  # whose averages keep nothing of themselves
        _, measured = model.clone(norm_momentum=0.0).apply(
            variables, images, train=False, mutable=["batch_stats"]
        )
    return measured["batch_stats"]


def adapt_batch_norm(
    measure: Callable[[Any, Any], Any], variables: Any, batches: Iterable[Any]
) -> dict[str, Any]:
    """Return `variables` with the statistics of other images in every batch norm (AdaBN).

    No label is looked at, and no parameter changes.

    Args:
        measure: `(variables, batch) → batch_stats` of the batch, as `moments` returns them.
        variables: `params` and the model's collections.
        batches: of unlabelled images of the new domain, each with its `mask`.

    References:
        Y. Li et al., Revisiting Batch Normalization for Practical Domain Adaptation, 2016. Their
        moving average over the target's batches is here the exact mean over all of them: the
        variance is that within batches and between them.
    """
    sizes, measured = [], []
    for batch in batches:
        sizes.append(float(jnp.sum(batch["mask"])))
        measured.append(flatten_dict(jax.device_get(measure(variables, batch))))
    old = flatten_dict(variables["batch_stats"])
    new = {}
    for *norm, name in old:
        mean, var = (
            np.stack([np.asarray(stats[*norm, k], np.float64) for stats in measured])
            for k in ("mean", "var")
        )
        center = np.average(mean, axis=0, weights=sizes)
        if name == "mean":
            new[*norm, name] = center
        else:
            new[*norm, name] = np.average(var + (mean - center) ** 2, axis=0, weights=sizes)
    cast = {path: jnp.asarray(new[path], old[path].dtype) for path in old}
    return {**variables, "batch_stats": unflatten_dict(cast)}
