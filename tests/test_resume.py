"""A run killed at any moment, and launched again, ends with the bits of one never killed.

ABLATE_KILLS sets how often the run is killed; the default keeps the suite quick.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
KILLS = int(os.environ.get("ABLATE_KILLS", "1"))

EXPERIMENT = '''
"""Does the width of a residual network matter?"""
from research.config import get_config as defaults

scales = ("laptop",)

def get_config(scale):
    config = defaults()
    config.experiment.baseline = "wide"
    config.model.depth = 8
    config.model.norm = "batch"
    config.data.batch_size = 32
    config.data.augment = ("flip",)
    config.train.steps = 100 + 60 * KILLS
    config.train.eval_every = 20
    config.train.log_every = 5
    config.train.diagnostics_every = 7
    config.train.ema = 0.9
    config.train.keep = 2
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    return config

def arms(scale):
    return {"wide": {"model.width": 4}, "narrow": {"model.width": 2}}
'''


def launch(experiment, workdir, *flags):
    # One host device and the programs that a user has.
    environment = os.environ | {"XLA_FLAGS": "", "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    return subprocess.Popen(
        [
            *(sys.executable, "-W", "error", ROOT / "launch.py", f"--experiment={experiment}"),
            *("--arms=wide", f"--workdir={workdir}", *flags),
        ],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=workdir.parent,
    )


def finish(process):
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    return output


def newest_checkpoint(run):
    steps = [int(p.name) for p in run.glob("checkpoints/*") if p.name.isdigit()]
    return max(steps, default=0)


def result(run):
    return json.loads((run / "result.json").read_text())


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    path = tmp_path_factory.mktemp("resume") / "width.py"
    path.write_text(EXPERIMENT.replace("KILLS", str(KILLS)))
    return path


def test_killed_runs_end_bit_identical(experiment):
    """SIGKILL at random moments after the first checkpoint; seed 0 alone against among others."""
    folder = experiment.parent
    unbroken = folder / "unbroken"
    finish(launch(experiment, unbroken, "--seeds=2"))
    broken = folder / "broken"
    run = broken / "wide" / "seed_0"
    moments = random.Random(0)
    for _ in range(KILLS):
        process = launch(experiment, broken, "--seeds=0,")
        before = newest_checkpoint(run)
        deadline = time.monotonic() + 120
        while newest_checkpoint(run) <= before:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.5))
        assert not (run / "result.json").exists()
        process.send_signal(signal.SIGKILL)
        process.communicate()
    finish(launch(experiment, broken, "--seeds=0,"))

    expected, found = result(unbroken / "wide" / "seed_0"), result(run)
    assert len(found["resumed_from"]) == KILLS
    assert all(step > 0 for step in found["resumed_from"])
    assert expected["resumed_from"] == []
    assert found["params_digest"] == expected["params_digest"]
    assert found["metrics"] == expected["metrics"]
    rows, expected_rows = (
        [json.loads(line) for line in (folder / name).read_text().splitlines()]
        for name in ("broken/wide/seed_0/metrics.jsonl", "unbroken/wide/seed_0/metrics.jsonl")
    )
    for row in rows + expected_rows:
        for timed in [k for k in row if k.startswith(("wall_seconds", "utilization/"))]:
            del row[timed]
    assert rows == expected_rows
    assert result(unbroken / "wide" / "seed_1")["params_digest"] != found["params_digest"]
