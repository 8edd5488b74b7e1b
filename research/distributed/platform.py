"""What a program is traced for, where a layer's best lowering depends on it."""

import contextlib
import contextvars
from collections.abc import Iterator

import jax

_planned = contextvars.ContextVar("planned", default="")
_spread = contextvars.ContextVar("spread", default=False)


def platform() -> str:
    """Return `cpu`, `gpu` or `tpu`: what is here, unless `traced_for` says otherwise."""
    return _planned.get() or jax.default_backend()


def is_spread() -> bool:
    """Whether the compiler spreads a batch over several devices, by `jit`."""
    return _spread.get()


def traced_for(kind: str) -> contextlib.AbstractContextManager[None]:
    """Trace for another kind of device than is here, as planning does."""
    return _within(_planned, kind)


def spread(over: int) -> contextlib.AbstractContextManager[None]:
    """Trace for so many devices, which the compiler spreads a batch over."""
    return _within(_spread, over > 1)


@contextlib.contextmanager
def _within(variable: contextvars.ContextVar, value: str | bool) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)
