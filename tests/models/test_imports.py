"""The models stand on JAX and Flax alone: nothing slow is imported beside them."""

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import json, sys
import jax, jax.numpy, flax.linen
before = set(sys.modules)
import research.models
print(json.dumps(sorted({name.split(".")[0] for name in set(sys.modules) - before})))
"""


def test_importing_the_models_imports_little():
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    foreign = set(json.loads(done.stdout)) - set(sys.stdlib_module_names)
    assert "research" in foreign and foreign <= {"research", "ml_collections", "jax", "flax"}
