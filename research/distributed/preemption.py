"""A scheduler's notice that it takes the machine away: SIGTERM."""

import contextlib
import itertools
import signal
import threading
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils


@contextlib.contextmanager
def notice() -> Iterator[Callable[[], bool]]:
    """Catch SIGTERM; yield a function that says whether it has come.

    With several processes a signal to any of them is one to all, and the function is True in all
    at the same call: each must call it equally often, as before every step. A second signal
    changes nothing; Ctrl-C still interrupts.
    """
    if jax.process_count() > 1:  # JAX itself has caught the signal since it was initialised
        calls, came = itertools.count(1), []

        def together() -> bool:
            if not came and multihost_utils.reached_preemption_sync_point(next(calls)):
                came.append(True)
            return bool(came)

        yield together
        return
    alone = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: alone.set())
    try:
        yield alone.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
