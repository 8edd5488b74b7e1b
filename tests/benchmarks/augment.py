"""What each augmentation costs beside the training step that it is part of.

    python tests/benchmarks/augment.py

Compiles each augmentation of a batch of 128 alone, and a ResNet-8 step on the same images, and
prints the time of both and their ratio. On 2 cores of a CPU: RandAugment a tenth of the step, any
other at most a thirtieth. `dm_pix.rotate`, vmapped, took 66 ms where `rotate` took 2.
"""

import statistics
import time

import jax
import numpy as np

from research.config import get_config, override
from research.data.augment import AUGMENTATIONS, NEED_COLOUR, augment
from research.data.images import Images
from research.data.sources import Dataset
from research.distributed.startup import start
from research.train.optimizer import hyperparams
from research.train.program import pure_functions

BATCH, REPEATS = 128, 20


def milliseconds(function, *arguments) -> float:
    """Return the median time of a call."""
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def step_time(shape: tuple[int, int, int]) -> float:
    """Return the time of a training step of a ResNet-8 without augmentation."""
    config = override(get_config(), {"model.depth": 8, "train.steps": 1}, "benchmark")
    split = Images("noise", None, np.arange(BATCH), shape, 10)
    images = np.random.default_rng(0).integers(0, 256, (BATCH, *shape), np.uint8)
    labels = np.arange(BATCH, dtype=np.int32) % 10
    split.remember("arrays", lambda: {"image": images, "label": labels})
    dataset = Dataset("noise", split, split, split, class_names=tuple("0123456789"))
    init, step, _ = pure_functions(config, dataset)
    state = jax.jit(init)(jax.random.key(0), hyperparams(config.optimizer))
    images, labels = split.arrays().values()
    batch = {"image": images, "label": labels, "mask": np.ones(BATCH, np.float32)}
    return milliseconds(jax.jit(step), state, batch)


def main() -> None:
    """Print a line for each augmentation and image size."""
    start(deterministic=False)
    for shape in ((32, 32, 3), (8, 8, 1)):
        whole = step_time(shape)
        print(f"{BATCH} × {' × '.join(map(str, shape))}: ResNet-8 step {whole:.1f} ms")
        images = jax.random.uniform(jax.random.key(1), (BATCH, *shape))
        labels = jax.nn.one_hot(np.arange(BATCH) % 10, 10)
        for name in AUGMENTATIONS:
            if name in NEED_COLOUR and shape[-1] != 3:
                continue
            apply = jax.jit(lambda *args, name=name: augment((name,), *args, fill=0.5))
            own = milliseconds(apply, jax.random.key(2), images, labels)
            print(f"  {name:20} {own:6.2f} ms, {own / whole:.3f} of the step")


if __name__ == "__main__":
    main()
