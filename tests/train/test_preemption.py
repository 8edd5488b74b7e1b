"""A run that is told to stop goes on, later and elsewhere, as if nothing had been."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import pytest

from research.commands.train import Datasets, run_all
from research.config import REQUEUE, Preempted, UserError
from research.distributed.mesh import make_mesh
from research.distributed.preemption import notice
from research.files import read_rows
from research.train.history import score
from research.train.loop import train

TIMED = ("wall_seconds", "utilization/")
WINDOWS = {"train.log_every": 4, "train.eval_every": 6, "train.diagnostics_every": 3}
LONG = WINDOWS | {"train.steps": 12, "train.ema": 0.9}


def rows_of(run):
    return [
        {k: v for k, v in row.items() if not k.startswith(TIMED)}
        for row in read_rows(run.directory / "metrics.jsonl")
    ]


def checkpoints(run):
    return sorted(int(f.name) for f in (run.directory / "checkpoints").iterdir())


def after(steps):
    """A signal that has come once so many steps were taken."""
    asked = iter(range(steps + 1))
    return lambda: next(asked) == steps


@pytest.fixture
def stopped(digits, mesh):
    """Train a run for so many steps, and stop."""

    def stop(run, steps, on=None):
        with pytest.raises(Preempted, match=rf"^{run.arm} seed {run.seed} at step \d+$") as notice:
            train(run, digits, on or mesh, stop=after(steps))
        return int(str(notice.value).split()[-1])

    return stop


@pytest.mark.parametrize("lives", [(1, 1, 3, 2), (5,), (7, 3), (11,)], ids=str)
def test_a_run_stopped_at_any_step_ends_with_the_bits_of_an_unbroken_one(
    make_run, stopped, digits, mesh, lives
):
    unbroken, broken = make_run("unbroken", LONG), make_run("broken", LONG)
    expected = train(unbroken, digits, mesh)
    for i, steps in enumerate(lives, start=1):
        assert stopped(broken, steps) == sum(lives[:i]) == checkpoints(broken)[-1]
    found = train(broken, digits, mesh)
    assert found["resumed_from"] == [sum(lives[:i]) for i in range(1, len(lives) + 1)]
    assert found["params_digest"] == expected["params_digest"]
    assert found["metrics"] == expected["metrics"]
    assert rows_of(broken) == rows_of(unbroken)


def test_what_a_stopped_run_has_learnt_is_not_its_best(make_run, stopped, digits, mesh):
    """Of a run whose best is early, with room for one checkpoint beside it."""
    changes = {"optimizer.learning_rate": 2.0, "train.steps": 12, "train.keep": 1}
    expected = train(make_run("unbroken", changes), digits, mesh)
    broken, before = make_run("broken", changes), 0
    for step in range(1, 12, 2):
        stopped(broken, step - before)
        evaluations = [row for row in rows_of(broken) if "validation/loss" in row]
        best = max(evaluations, key=lambda row: (score(row), row["step"]), default={"step": step})
        assert checkpoints(broken) == sorted({best["step"], step})
        before = step
    assert best["step"] < 10  # and so it was of use
    found = train(broken, digits, mesh)
    assert found["metrics"] == expected["metrics"]
    assert not list(broken.directory.glob("unreadable*"))


def test_a_step_that_has_its_checkpoint_is_not_saved_again(make_run, stopped):
    run = make_run("run", LONG)
    assert stopped(run, 6) == 6
    before = (run.directory / "checkpoints/6").stat().st_mtime_ns
    assert stopped(run, 0) == 6
    assert (run.directory / "checkpoints/6").stat().st_mtime_ns == before
    assert "validation/accuracy" in (run.directory / "checkpoints/6/metrics/metrics").read_text()


def test_a_run_stopped_before_its_first_step_leaves_no_checkpoint(make_run, stopped):
    run = make_run("run", LONG)
    assert stopped(run, 0) == 0 and checkpoints(run) == []


def test_runs_side_by_side_all_stop_and_those_that_wait_do_not_begin(make_run):
    runs = [make_run(f"{seed}", {"train.steps": 2000}, seed=seed) for seed in range(3)]
    told = threading.Event()

    def tell():
        while not all((run.directory / "checkpoints").exists() for run in runs[:2]):
            time.sleep(0.01)
        told.set()

    threading.Thread(target=tell, daemon=True).start()
    with pytest.raises(Preempted, match=r"^SIGTERM: stopped .*; launch again") as notice:
        run_all("test", runs, Datasets(None), told.is_set)
    for run in runs[:2]:
        step = int(re.search(rf"base seed {run.seed} at step (\d+)", str(notice.value))[1])
        assert step == max(checkpoints(run), default=0)
    assert not runs[2].directory.exists()


CARRIED = {
    "data.name": "toy/text",
    "model.name": "recurrent",
    "model.hidden": None,
    "model.hidden_size": 8,
    "data.length": 16,
    "data.batch_size": 8,
    "data.eval_batch_size": 8,
}


def test_a_run_goes_on_on_fewer_devices_and_another_mesh(make_run):
    """One whose state, carried from batch to batch, is split as the batch is."""
    changes = LONG | CARRIED | {"train.precision": "float64"}
    unbroken, broken = make_run("unbroken", changes), make_run("broken", changes)
    dataset = Datasets(None).of(unbroken.config)
    eight = make_mesh(jax.devices(), {"data": 8})
    four = make_mesh(jax.devices()[:4], {"data": 2, "fsdp": 2})
    one = make_mesh(jax.devices()[:1], {"data": 1})
    expected = train(unbroken, dataset, eight)
    for mesh, steps in ((eight, 2), (four, 5)):
        with pytest.raises(Preempted):
            train(broken, dataset, mesh, stop=after(steps))
    found = train(broken, dataset, one)
    assert found["resumed_from"] == [2, 7] and found["layout"]["mesh"]["data"] == 1
    for row, other in zip(rows_of(broken), rows_of(unbroken), strict=True):
        assert row.keys() == other.keys()
        for name in row:  # diagnostics are of single precision
            rel = 1e-5 if name.startswith("diagnostics/") else 1e-10
            assert row[name] == pytest.approx(other[name], rel=rel, abs=1e-10), name
    assert found["metrics"]["test/loss"] == pytest.approx(expected["metrics"]["test/loss"], 1e-10)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.hidden": (8,)}, [r"bias of shape \(16,\), expected \(8,\)"]),
        ({"model.hidden": (16, 16)}, ["found .* of shape none"]),
        ({"model.hidden": ()}, ["expected none"]),
    ],
)
def test_a_checkpoint_of_another_model_is_an_error_that_names_it(
    make_run, stopped, digits, mesh, changes, words
):
    stopped(make_run("run", LONG), 5)
    run = make_run("run", LONG | changes)
    with pytest.raises(UserError, match=r"checkpoints/5 holds another model: found ") as error:
        train(run, digits, mesh)
    assert all(re.search(word, str(error.value)) for word in words), error.value
    assert checkpoints(run) == [5] and not list(run.directory.glob("unreadable*"))


def test_the_signal_is_noticed_and_what_it_did_before_comes_back():
    before = signal.getsignal(signal.SIGTERM)
    with notice() as stop:
        assert not stop()
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop() and stop()
    assert signal.getsignal(signal.SIGTERM) is before
    with notice() as stop:
        assert not stop()


def test_a_launch_that_gets_the_signal_says_so_and_asks_for_another_try(tmp_path, width):
    endless = {"train.steps": 200_000, "train.eval_every": 50_000, "train.log_every": 100}
    width(tmp_path, endless | {"experiment.seeds": 2})
    rows = [tmp_path / "runs/narrow" / f"seed_{i}" / "metrics.jsonl" for i in range(2)]
    process = subprocess.Popen(
        [
            *(sys.executable, "-W", "error", Path(__file__).resolve().parents[2] / "launch.py"),
            *("--experiment=width.py", "--workdir=runs", "--mesh=seed:2"),
        ],
        env=os.environ | {"XLA_FLAGS": ""},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not all(path.exists() and path.read_text() for path in rows):
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.05)
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == REQUEUE, error
    assert len(error.splitlines()) == 1 and error.startswith("launch.py: SIGTERM: stopped ")
    for seed, path in enumerate(rows):
        (checkpoint,) = (path.parent / "checkpoints").iterdir()
        assert f"narrow seed {seed} at step {checkpoint.name}" in error
        assert json.loads((checkpoint / "data/metadata").read_text())["position"] >= 100
