"""Two seeds side by side against one after the other.

    python tests/benchmarks/side_by_side.py

Prints the ratio of times in each pair. Expected on 2 cores: a median of at most 0.9.
"""

import statistics
import tempfile
import time
from pathlib import Path

from research.commands.train import Datasets, run_all
from research.config import get_config, override
from research.distributed.startup import start
from research.train.record import Run

PAIRS = 5


def main() -> None:
    """Print the ratio of each pair, and their median."""
    start(deterministic=False)
    config = override(
        get_config(),
        {"model.depth": 8, "data.batch_size": 32, "train.steps": 250, "train.eval_every": 50},
        "benchmark",
    )
    datasets = Datasets(None)

    def seconds(*groups: tuple[int, ...]) -> float:
        """Train the seeds of each group side by side, group after group."""
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            for seeds in groups:
                run_all(
                    "benchmark",
                    [
                        Run("benchmark", "laptop", "arm", seed, config, Path(folder) / str(seed))
                        for seed in seeds
                    ],
                    datasets,
                )
            return time.perf_counter() - began

    seconds((0,))  # compile
    ratios = []
    for pair in range(PAIRS):
        calls = [((0, 1),), ((0,), (1,))]
        times = {len(groups): seconds(*groups) for groups in (calls if pair % 2 else calls[::-1])}
        ratios.append(times[1] / times[2])
        print(f"together {times[1]:.2f} s, in turn {times[2]:.2f} s, ratio {ratios[-1]:.2f}")
    print(f"median ratio {statistics.median(ratios):.2f} over {PAIRS} pairs")


if __name__ == "__main__":
    main()
