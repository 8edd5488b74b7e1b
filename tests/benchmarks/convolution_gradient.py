"""Convolutions whose weight gradient is a sum over chunks of the batch, against XLA's own.

    python tests/benchmarks/convolution_gradient.py

Compiles the training step of each network with `research.models.convolution` taking so many images
at a time, checks that a step is the same, and times steps in turn.

On 2 cores of an AMD EPYC, jax 0.10.2, batches of 128; wall time against XLA's own, medians of 5
rounds with their range, and a step's parameters within 6e-8:

                           images at a time    compiler    step     ratio
    ResNet-20, 32×32×3     all                   2.1 s     764 ms
                           32                    3.2 s     589 ms   0.77 (0.72 to 0.78)
                           8                     9.3 s     518 ms   0.68 (0.65 to 0.74)
    ResNet-8, 8×8×1        all                   1.5 s      20 ms
                           32                    2.3 s      15 ms   0.98 (0.70 to 1.05)
                           8                     4.6 s      16 ms   1.01 (0.74 to 1.35)

So the networks here take 32 at a time: that wins a fifth on CIFAR's images, after six steps, and
costs nothing on digits. Of MobileNet, VGG-11 and GoogLeNet the step's time is the same by
either (0.97, 0.96 and 1.01).
"""

import statistics
import time
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from research.config import get_config, override
from research.data.images import Images
from research.data.sources import Dataset
from research.distributed.startup import start
from research.models import convolution
from research.train.optimizer import hyperparams
from research.train.program import pure_functions

BATCH, ROUNDS, CHUNKS = 128, 5, (32, 8)
NETWORKS = ((20, (32, 32, 3)), (8, (8, 8, 1)))  # depth of a ResNet, images


def compiled(depth: int, shape: tuple[int, int, int], chunk: int | None):
    """Return a compiled training step, the seconds of compilation, and the arguments."""
    config = override(
        get_config(),
        {"model.depth": depth, "train.steps": 1, "data.batch_size": BATCH},
        "benchmark",
    )
    split = Images("noise", None, np.arange(BATCH), shape, 10)
    images = np.random.default_rng(0).integers(0, 256, (BATCH, *shape), np.uint8)
    labels = np.arange(BATCH, dtype=np.int32) % 10
    split.remember("arrays", lambda: {"image": images, "label": labels})
    init, step, _ = pure_functions(
        config, Dataset("noise", split, split, split, class_names=tuple("0123456789"))
    )
    state = jax.jit(init)(jax.random.key(0), hyperparams(config.optimizer))
    batch = {"image": images, "label": labels, "mask": np.ones(BATCH, np.float32)}
    with mock.patch.object(convolution, "CHUNK", chunk or BATCH):
        lowered = jax.jit(step).lower(state, batch)
    began = time.perf_counter(), time.process_time()
    program = lowered.compile()
    return program, time.perf_counter() - began[0], time.process_time() - began[1], (state, batch)


def main() -> None:
    """Print a line for each network and size of chunks."""
    start(deterministic=False)
    jax.config.update("jax_enable_compilation_cache", False)
    for depth, shape in NETWORKS:
        programs = {chunk: compiled(depth, shape, chunk) for chunk in (None, *CHUNKS)}
        seconds, params = {chunk: [] for chunk in programs}, {}
        for _ in range(ROUNDS):
            for chunk, (step, _, _, arguments) in programs.items():
                began = time.perf_counter(), time.process_time()
                state, _ = jax.block_until_ready(step(*arguments))
                seconds[chunk].append(
                    (time.perf_counter() - began[0], time.process_time() - began[1])
                )
                params[chunk] = state.params
        print(f"ResNet-{depth}, {BATCH} × {'×'.join(map(str, shape))}")
        wall, cpu = ({c: [t[i] for t in ts] for c, ts in seconds.items()} for i in (0, 1))
        for chunk, (_, compile_wall, compile_cpu, _) in programs.items():
            ratios = [a / b for a, b in zip(wall[chunk], wall[None], strict=True)]
            used = [a / b for a, b in zip(cpu[chunk], cpu[None], strict=True)]
            apart = max(
                float(jnp.abs(a - b).max())
                for a, b in zip(
                    jax.tree.leaves(params[chunk]), jax.tree.leaves(params[None]), strict=True
                )
            )
            print(
                f"  chunk {chunk}: compile {compile_wall:.1f} s (processor {compile_cpu:.1f}), "
                f"step {1000 * statistics.median(wall[chunk]):.0f} ms (processor "
                f"{1000 * statistics.median(cpu[chunk]):.0f}), ratio "
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), "
                f"processor {statistics.median(used):.2f}; params {apart:.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
