"""An LSTM's time beside Flax's and torch's, and the parallel cells' by the number of steps.

    python tests/benchmarks/recurrent.py

Times `Recurrent("lstm", 512)` on a batch of 32 sequences of 128 steps of 256 features, forward and
with the gradient of everything, in turn with Flax's `nn.RNN(nn.OptimizedLSTMCell)` and, where torch
can be imported, `torch.nn.LSTM`, and prints the ratio of each pair's times, median and range, and
that of processor times, which other work on the machine disturbs less. `--crossover` adds the
parallel cells beside the LSTM, by the number of steps.

On 2 cores of an AMD EPYC, jax 0.10.2, torch 2.13, 15 pairs each: 0.96 of Flax's time forward (0.82
to 1.06), 0.88 with gradient (0.73 to 0.97); of torch's, 1.21 (1.12 to 1.42) and 1.34 (0.90 to
1.97).

Tried of what could lead: the input's projection ahead of the scan and the gradient of U after it
(with gradient they gain; forward the projections of all steps, 33 MB, cost a tenth more than they
save, so that a CPU takes them segment by segment); one sigmoid for all gates (0.87 forward); both
biases added in the scan; `unroll` (no gain that shows). Not tried, for all of the code would have
to turn: the state kept transposed, with which the bare scan took 0.8 of its time.

The parallel cells are faster than the LSTM from the shortest sequences on: forward and with
gradient minGRU takes 0.29 and 0.16 of its time at 16 steps, 0.44 and 0.27 at 1,024; minLSTM 0.38
and 0.26, 0.49 and 0.37; the LRU 0.85 and 0.76, 1.02 and 0.81 (batches of 8). It is the arithmetic
that they save, not the scan in parallel: their share grows with the length, and the LRU's lead
forward is gone at 1,024.
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
