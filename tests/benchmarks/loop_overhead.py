"""What the training loop costs beside its step: data, metrics, logging, TensorBoard.

    python tests/benchmarks/loop_overhead.py

Pairs the loop, between its first and its last log row, with a bare `for` over the same compiled
step on one resident batch, and prints the ratio of times per step. Expected: at most 1.03.
"""

import statistics
import tempfile
import time
from pathlib import Path

import jax

from research.config import get_config, override
from research.data.feed import make_feed
from research.data.sources import load_dataset
from research.distributed.mesh import batch_sharding, lanes, replicated
from research.distributed.startup import start
from research.train.loop import train
from research.train.optimizer import hyperparams
from research.train.program import get_program
from research.train.record import Run

PAIRS, STEPS, LOG_EVERY = 7, 150, 25


def loop(config, dataset, mesh) -> float:
    """Return the seconds per step of the loop, evaluation and checkpoints left out."""
    times = []
    with tempfile.TemporaryDirectory() as directory:
        run = Run("benchmark", "laptop", "arm", 0, config, Path(directory), test=False)
        train(run, dataset, mesh, watch=lambda *_: times.append(time.perf_counter()))
    # The last row comes after an evaluation.
    return (times[-2] - times[0]) / (STEPS - 2 * LOG_EVERY)


def bare(config, dataset, mesh) -> float:
    """Return the seconds per step of the compiled step alone."""
    program = get_program(config, dataset, mesh)
    values = (jax.random.key(0), hyperparams(config.optimizer))
    state = program.init(*jax.device_put(values, replicated(mesh)))
    batch = next(
        make_feed(
            dataset.train,
            kind="resident",
            batch_size=config.data.batch_size,
            seed=0,
            sharding=batch_sharding(mesh),
        )
    )
    for step in range(STEPS - LOG_EVERY):
        if step == LOG_EVERY:
            jax.block_until_ready(state)
            began = time.perf_counter()
        state, _ = program.step(state, batch)
    jax.block_until_ready(state)
    return (time.perf_counter() - began) / (STEPS - 2 * LOG_EVERY)


def main() -> None:
    """Print the ratio of each pair, and their median."""
    start(deterministic=False)
    config = override(
        get_config(),
        {
            "model.depth": 8,
            "train.steps": STEPS,
            "train.eval_every": STEPS,
            "train.log_every": LOG_EVERY,
        },
        "benchmark",
    )
    dataset, mesh = load_dataset("digits"), lanes(1)[0]
    bare(config, dataset, mesh)
    loop(config, dataset, mesh)
    ratios = []
    for pair in range(PAIRS):
        first, second = (loop, bare) if pair % 2 else (bare, loop)
        seconds = {f.__name__: f(config, dataset, mesh) for f in (first, second)}
        ratios.append(seconds["loop"] / seconds["bare"])
        print(
            f"loop {1000 * seconds['loop']:.2f} ms/step, bare {1000 * seconds['bare']:.2f} "
            f"ms/step, ratio {ratios[-1]:.3f}"
        )
    print(f"median ratio {statistics.median(ratios):.3f} over {PAIRS} pairs")


if __name__ == "__main__":
    main()
