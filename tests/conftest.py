"""Every test runs on 8 host devices of a CPU, and shares compiled programs and prepared data."""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_shared = tempfile.TemporaryDirectory(prefix="ablate-tests-")
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
if importlib.metadata.version("jax").startswith("0.10."):  # later ones have the new emitters alone
    # The old ones take half as long, and compiling is most of what tests do.
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
os.environ["PJRT_NPROC"] = "32"  # see `research.distributed.startup`
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{_shared.name}/xla")
# Every program: those of single operations are compiled again in every file, see `forgotten`.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Prepared digits; real cifar10 and mnist are found through ABLATE_DATA_DIR, where there are some.
os.environ["TFDS_DATA_DIR"] = f"{_shared.name}/tfds"
# Most of the time would go into XLA's optimisations of programs that run a few steps.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax  # noqa: E402
import pytest  # noqa: E402

from research.config import get_config, override  # noqa: E402
from research.data.sources import load_dataset  # noqa: E402
from research.distributed.mesh import make_mesh  # noqa: E402
from research.distributed.topology import parse_topology  # noqa: E402
from research.train import program  # noqa: E402
from research.train.loop import train  # noqa: E402
from research.train.record import Run  # noqa: E402

TINY = {
    "model.name": "mlp",
    "model.hidden": (16,),
    "data.batch_size": 32,
    "train.steps": 6,
    "train.log_every": 1,
    "train.eval_every": 2,
    "train.tensorboard": False,
}

WIDTH = '''"""Does the width of a network matter?"""
from research.config import get_config as defaults, override

scales = ("laptop",)

def get_config(scale):
    return override(defaults(), {changes!r}, "width.py")

def arms(scale):
    return {arms!r}
'''

# Command lines from standard input, one after the other: absl's flags can be parsed again.
MANY = """
import shlex, sys, launch
from absl import flags
from research.config import UserError
OWN = [flag.name for flag in flags.FLAGS.flags_by_module_dict()["launch"] if flag.name != "config"]
for line in sys.stdin.read().splitlines():
    for name in [n for n in flags.FLAGS if n.split(".")[0] == "config"]:
        delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()
    for name in OWN:
        flags.FLAGS[name].unparse()
    try:
        sys.argv = ["launch.py", *shlex.split(line)]  # config_flags looks there, too
        launch.main(launch.parse_flags(sys.argv))
        message = "accepted"
    except UserError as error:
        message = str(error).replace("\\n", "|")
    print(end=f"\\0{message}\\0")
"""


@pytest.fixture(scope="module", autouse=True)
def forgotten():
    """Forget what a file's tests compiled: some ten thousand programs in one process end in a
    segmentation fault, for each takes some of its memory maps, which the system counts.
    """
    yield
    program._programs.clear()
    jax.clear_caches()


@pytest.fixture(scope="session")
def digits():
    return load_dataset("digits")


@pytest.fixture(scope="session")
def mesh():
    """A mesh of one device."""
    return make_mesh(jax.devices()[:1])


@pytest.fixture(scope="session")
def tpus():
    """Four chips that are not here, to compile for."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("needs libtpu, the compiler of TPUs: pip install 'ablate[plan]'")
    return parse_topology("v5e:2x2").devices()


@pytest.fixture(scope="session")
def launch_many():
    """Launch command lines, without what a process for each would cost; return what each prints,
    and "accepted", or the error's message, its lines joined by "|".
    """

    def launch(lines, folder):
        done = subprocess.run(
            [sys.executable, "-c", MANY],
            input="\n".join(lines),
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": "", "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0 and done.stderr == "", done.stderr
        said = done.stdout.split("\0")
        return list(zip(said[:-1:2], said[1::2], strict=True))

    return launch


@pytest.fixture(scope="session")
def width():
    """Write an experiment into `folder`, for launches from a shell; return its path."""
    changes = {"model.name": "mlp", "train.tensorboard": False}
    changes |= {"experiment.baseline": "narrow", "experiment.seeds": 1}

    def write(folder, more, **others):
        arms = {"narrow": {"model.hidden": (4,)}} | others
        (folder / "width.py").write_text(WIDTH.format(changes=changes | more, arms=arms))
        return folder / "width.py"

    return write


@pytest.fixture(scope="session")
def tiny():
    """A config that trains in a second, with `changes`."""

    def make(changes=None):
        return override(override(get_config(), TINY, "test"), changes or {}, "test")

    return make


@pytest.fixture
def make_run(tmp_path, tiny):
    """A run of the tiny config in a folder of its own."""

    def make(folder="run", changes=None, *, arm="base", seed=0, **fields):
        return Run("tiny", "laptop", arm, seed, tiny(changes), tmp_path / folder, **fields)

    return make


@pytest.fixture
def train_run(make_run, digits, mesh):
    """Train such a run to its end; return its result."""

    def run(folder="run", changes=None, *, dataset=None, on=None, watch=None, say=print, **fields):
        return train(
            make_run(folder, changes, **fields),
            dataset or digits,
            on or mesh,
            watch=watch or (lambda *_: None),
            say=say,
        )

    return run
