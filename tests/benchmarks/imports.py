"""What it costs to import the models, and to find the shapes of a full-size one.

    python tests/benchmarks/imports.py

Expected: `research.models` at most 0.3 s beyond JAX and Flax (processor time, median of pairs of
processes); `jax.eval_shape` of every model's initialisation below 3 s.
"""

import statistics
import subprocess
import sys
import time

PAIRS = 5
IMPORTS = {
    "jax and flax": "import jax, jax.numpy, flax.linen",
    "research.models": "import jax, jax.numpy, flax.linen, research.models",
}


def seconds(statement: str) -> float:
    """Return the processor's seconds that a statement takes in a fresh process."""
    program = f"import time; {statement}; print(time.process_time())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    return float(done.stdout)


def shapes() -> dict[str, float]:
    """Return the seconds that `eval_shape` takes of each model's initialisation, on its images."""
    import jax

    from research.models import MODELS, create_model

    times = {}
    for name in MODELS:
        model = create_model(name)
        images = jax.ShapeDtypeStruct((1, *model.input_shape), "float32")
        start = time.process_time()
        jax.eval_shape(model.init, jax.random.key(0), images)
        times[name] = time.process_time() - start
    return times


def main() -> None:
    """Print both tables."""
    times = {name: [] for name in IMPORTS}
    for _ in range(PAIRS):
        for name, statement in IMPORTS.items():
            times[name].append(seconds(statement))
    for name, values in times.items():
        print(f"import {name:18} {statistics.median(values):6.2f} s")
    extra = [b - a for a, b in zip(*times.values(), strict=True)]
    print(f"beyond jax and flax       {statistics.median(extra):6.2f} s (at most 0.3)")
    print("\neval_shape of (at most 3)")
    for name, value in shapes().items():
        print(f"  {name:24}{value:6.2f} s")


if __name__ == "__main__":
    main()
