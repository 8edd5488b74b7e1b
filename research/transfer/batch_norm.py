"""Batch norm in transfer: frozen ones keep their statistics, others take those of a new domain."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import jax
from flax import linen as nn

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
