"""An LSTM's time beside Flax's and torch's, and the parallel cells' by the number of steps.

    python tests/benchmarks/recurrent.py

Times `Recurrent("lstm", 512)` on a batch of 32 sequences of 128 steps of 256 features, forward and
with the gradient of everything, in turn with Flax's `nn.RNN(nn.OptimizedLSTMCell)` and, where torch
can be imported, `torch.nn.LSTM`, and prints the ratio of each pair's times, median and range, and
that of processor times, which other work on the machine disturbs less. `--crossover` adds the
parallel cells beside the LSTM, by the number of steps.

On 2 cores with several times as much other work, jax 0.10.2, torch 2.13, before `record` and the
sum of both projections were seen to: 1.14 of Flax's time forward (0.99 to 2.19), 0.90 with gradient
(0.60 to 1.10); of torch's, 0.46 (0.11 to 0.92) and 0.34 (0.16 to 0.90). To be measured again on a
machine that does nothing else.
"""

import importlib.util
import statistics
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from research.models.rnn import Recurrent

BATCH, STEPS, FEATURES, HIDDEN = 32, 128, 256, 512
PAIRS = 15

Call = Callable[[], object]


def ours(cell: str, x: np.ndarray, **switches) -> dict[str, Call]:
    """Return calls of a network of ours, by what they compute."""
    return _jax(Recurrent(cell, HIDDEN, **switches), x, lambda result: result[0])


def flax(x: np.ndarray) -> dict[str, Call]:
    """Return calls of Flax's LSTM."""
    return _jax(nn.RNN(nn.OptimizedLSTMCell(HIDDEN)), x, lambda result: result)


def _jax(model: nn.Module, x: np.ndarray, outputs: Callable) -> dict[str, Call]:
    x = jnp.asarray(x)
    variables = jax.jit(model.init)(jax.random.key(0), x)

    def loss(variables, x):
        return (outputs(model.apply(variables, x)) ** 2).sum()

    forward = jax.jit(lambda variables, x: outputs(model.apply(variables, x)))
    gradient = jax.jit(jax.value_and_grad(loss, (0, 1)))
    return {
        "forward": lambda: jax.block_until_ready(forward(variables, x)),
        "with gradient": lambda: jax.block_until_ready(gradient(variables, x)),
    }


def torch_lstm(x: np.ndarray) -> dict[str, Call]:
    """Return calls of torch's LSTM."""
    import torch

    model = torch.nn.LSTM(x.shape[-1], HIDDEN, batch_first=True)
    x = torch.tensor(x, requires_grad=True)

    def forward():
        with torch.no_grad():
            return model(x)[0]

    def gradient():
        model.zero_grad()
        (model(x)[0] ** 2).sum().backward()

    return {"forward": forward, "with gradient": gradient}


def compare(name: str, one: Call, name_of_other: str, other: Call) -> None:
    """Time two calls in turn, and print the ratio of one's time to the other's."""
    one(), other()
    times = [[], []]  # of each, pairs of a wall clock's and the processor's seconds
    for pair in range(PAIRS):
        for i in (0, 1) if pair % 2 else (1, 0):
            began = time.perf_counter(), time.process_time()
            (one, other)[i]()
            ended = time.perf_counter(), time.process_time()
            times[i].append((ended[0] - began[0], ended[1] - began[1]))
    wall, processor = (
        [mine[clock] / its[clock] for mine, its in zip(*times, strict=True)] for clock in (0, 1)
    )
    mine, its = (1000 * statistics.median(wall for wall, _ in each) for each in times)
    print(
        f"{name:32} {mine:7.1f} ms, {name_of_other} {its:7.1f} ms, ratio "
        f"{statistics.median(wall):.2f} ({min(wall):.2f} to {max(wall):.2f}), of processor time "
        f"{statistics.median(processor):.2f} ({min(processor):.2f} to {max(processor):.2f})",
        flush=True,
    )


def main() -> None:
    """Print a line for each comparison."""
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, {PAIRS} pairs")
    x = np.random.default_rng(0).standard_normal((BATCH, STEPS, FEATURES)).astype(np.float32)
    lstm = ours("lstm", x)
    others = {"Flax": flax(x)}
    if importlib.util.find_spec("torch"):
        others["torch"] = torch_lstm(x)
    for other, calls in others.items():
        for what, call in calls.items():
            compare(f"LSTM, {what}", lstm[what], other, call)
    if "--crossover" not in sys.argv:
        return
    for steps in (16, 64, 256, 1024):
        x = np.random.default_rng(0).standard_normal((8, steps, FEATURES)).astype(np.float32)
        lstm = ours("lstm", x)
        for cell in ("min_gru", "min_lstm", "lru"):
            for what, call in ours(cell, x).items():
                compare(f"{cell}, T = {steps}, {what}", call, "LSTM", lstm[what])


if __name__ == "__main__":
    main()
