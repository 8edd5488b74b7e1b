"""Convolutions whose weight gradient is a sum over chunks of the batch, against XLA's own.

    python tests/benchmarks/convolution_gradient.py

XLA computes the weight gradient of a convolution as another one with the images for its kernel,
slowly on a CPU, where 8 images at a time are faster. Compiles the training step of each network
with either, checks that a step is the same, times steps in turn, and prints after how many steps
what the compiler takes longer has been won back.

On 2 cores of an AMD EPYC that had other work besides, jax 0.10.2, batches of 128; processor
time against XLA's own, medians of 5 rounds, and a step's parameters within 6e-8:

                           images at a time    compiler    step     ratio
    ResNet-20, 32×32×3     all                   3.3 s    1235 ms
                           32                    5.2 s     922 ms   0.77
                           8                    16.1 s     818 ms   0.68
    ResNet-8, 8×8×1        all                   3.1 s      28 ms
                           32                    4.3 s      27 ms   0.97
                           8                     8.2 s      30 ms   1.07

So 32 at a time win 0.3 s a step on CIFAR's images, after 6 steps, and nothing on digits. The
networks here are left with XLA's gradient all the same: a custom VJP has no forward mode, which
tests of gradients use, and slices of a batch that several devices share have not been measured.
"""

import statistics
import time
from functools import partial
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array, lax

from research.config import get_config, override
from research.data.images import Images
from research.data.sources import Dataset
from research.distributed.startup import start
from research.train.optimizer import hyperparams
from research.train.program import pure_functions

BATCH, ROUNDS, CHUNKS = 128, 5, (32, 8)
NETWORKS = ((20, (32, 32, 3)), (8, (8, 8, 1)))  # depth of a ResNet, images


def convolve(x: Array, kernel: Array, *args, chunk: int, **options) -> Array:
    """`lax.conv_general_dilated`, its kernel's gradient summed over `chunk` images at a time."""
    forward = partial(_convolve, args=args, options=options)

    @jax.custom_vjp
    def convolution(x, kernel):
        return forward(x, kernel)

    def backward(saved, gradient):
        x, kernel = saved
        (of_x,) = jax.vjp(lambda x: forward(x, kernel), x)[1](gradient)
        of_kernel = jnp.zeros_like(kernel)
        for i in range(0, len(x), chunk):
            images = x[i : i + chunk]
            of_kernel += jax.vjp(partial(forward, images), kernel)[1](gradient[i : i + chunk])[0]
        return of_x, of_kernel

    convolution.defvjp(lambda x, kernel: (forward(x, kernel), (x, kernel)), backward)
    return convolution(x, kernel)


def _convolve(x, kernel, args, options):
    return lax.conv_general_dilated(x, kernel, *args, **options)


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
    conv = partial(nn.Conv, conv_general_dilated=partial(convolve, chunk=chunk))
    with mock.patch.object(nn, "Conv", conv if chunk else nn.Conv):
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
