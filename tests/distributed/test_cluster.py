"""Runs that span processes: real ones, over gloo on loopback."""

import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from research.commands.train import Datasets
from research.config import REQUEUE, UserError
from research.distributed import cluster
from research.distributed.mesh import make_mesh
from research.distributed.parallel import check_parallel
from research.experiment import resolve
from research.files import read_rows
from research.train.loop import train

ROOT = Path(__file__).resolve().parents[2]
TIMED = ("wall_seconds", "utilization/")
STEPS = 150
LONG = 900  # JAX takes a second or two to agree on where to stop
CHANGES = {
    **{"experiment.panels": ("test/loss",), "data.batch_size": 32, "data.train_size": 320},
    **{"train.precision": "float64", "train.mesh": "data:4"},
    **{"train.steps": STEPS, "train.eval_every": 30, "train.log_every": 7},
}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory, width):
    return width(tmp_path_factory.mktemp("cluster"), CHANGES)


@pytest.fixture(scope="module")
def long_experiment(tmp_path_factory, width):
    return width(tmp_path_factory.mktemp("long"), CHANGES | {"train.steps": LONG})


class Launch:
    """Two processes that train together; whatever happens, they are gone at the end."""

    def __init__(self, experiment, workdir):
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = f"127.0.0.1:{server.getsockname()[1]}"
        environment = os.environ | {"XLA_FLAGS": "", "COLUMNS": "200"}
        command = [sys.executable, "-W", "error", ROOT / "launch.py", f"--workdir={workdir}"]
        command += [f"--experiment={experiment}"]
        self.run = workdir / "narrow" / "seed_0"
        self.processes = []
        command += [f"--coordinator_address={address}", "--num_processes=2"]
        for i in range(2):
            self.processes.append(
                subprocess.Popen(
                    list(map(str, [*command, f"--process_id={i}", "--cluster_timeout=60"])),
                    cwd=experiment.parent,
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for process in self.processes:
            process.kill()
            process.communicate()

    def wait_for_checkpoint(self, step):
        """Wait until there is one at `step` or after it."""
        deadline = time.monotonic() + 90
        while max(checkpoints(self.run), default=0) < step:
            assert all(p.poll() is None for p in self.processes), self.end()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def end(self, timeout=90):
        """Return `(status, stdout, stderr)` of each."""
        ended = [process.communicate(timeout=timeout) for process in self.processes]
        return [(p.returncode, *e) for p, e in zip(self.processes, ended, strict=True)]


def checkpoints(run):
    return [int(path.name) for path in run.glob("checkpoints/*") if path.name.isdigit()]


def finish(experiment, workdir):
    with Launch(experiment, workdir) as launch:
        ended = launch.end()
    assert [status for status, _, _ in ended] == [0, 0], ended
    return json.loads((launch.run / "result.json").read_text()), ended


def train_here(experiment, workdir, **sizes):
    """Train, or go on, in this process."""
    run = resolve(str(experiment), "laptop", workdir=str(workdir)).runs()[0]
    mesh = make_mesh(jax.devices()[: math.prod(sizes.values())], sizes)
    return train(run, Datasets(None).of(run.config), mesh)


def rows_of(workdir):
    rows = read_rows(workdir / "narrow" / "seed_0" / "metrics.jsonl")
    return [{k: v for k, v in row.items() if not k.startswith(TIMED)} for row in rows]


def agree(result, workdir, other, other_workdir):
    """The numbers are the same but for rounding."""
    assert result["metrics"].keys() == other["metrics"].keys()
    pairs = [(result["metrics"], other["metrics"])]
    rows, others = rows_of(workdir), rows_of(other_workdir)
    assert [row["step"] for row in rows] == [row["step"] for row in others]
    for row, expected in pairs + list(zip(rows, others, strict=True)):
        assert row.keys() == expected.keys()
        for name, value in expected.items():
            assert row[name] == (value if value is None else pytest.approx(value, rel=1e-10)), name


@pytest.fixture(scope="module")
def unbroken(experiment):
    """The result of 2 processes with 2 devices each, and all that they said."""
    return finish(experiment, experiment.parent / "unbroken")


def test_processes_with_devices_each_equal_one_with_all(experiment, unbroken):
    result, folder = unbroken[0], experiment.parent
    alone = train_here(experiment, folder / "alone", data=4)
    assert result["layout"] == alone["layout"] and result["layout"]["mesh"]["data"] == 4
    agree(result, folder / "unbroken", alone, folder / "alone")


GLOO = "[Gloo] Rank is connected to peer ranks. Expected number of connected peer ranks is :"


def said(text):
    """The lines but for Gloo's, whose threads write them into one another, in pieces."""
    words = set(GLOO.split())
    return [line for line in text.splitlines() if set(re.sub(r"\d", "", line).split()) - words]


def test_only_the_first_process_speaks(unbroken):
    torn = "[Gloo] Rank 1 is connected to 1 peer ranks. Expected [Gloo] Rank 3\n2 is : 3\n\n"
    assert said(torn + "finished at step 3\n") == ["finished at step 3"]
    (_, first, _), (_, second, _) = unbroken[1]
    assert any(f"finished at step {STEPS}" in line for line in said(first)) and not said(second)


def kill(experiment, workdir, victim):
    """Kill a process in the middle; return the exit status of the other, and what it said."""
    with Launch(experiment, workdir) as launch:
        launch.wait_for_checkpoint(30)
        gone = launch.processes[victim]
        gone.kill()
        killed = time.monotonic()
        status, _, error = launch.end()[1 - victim]
        assert time.monotonic() - killed < 45  # not by its silence, which counts after 60
    message = [line for line in error.splitlines() if line.startswith("launch.py: ")]
    assert len(message) == 1 and f"process {victim} (" in message[0], error
    assert f"pid {gone.pid}) is gone" in message[0] and "launch again" in message[0]
    return status, error


def test_a_process_killed_ends_the_others_by_name_and_the_relaunch_goes_on(experiment, unbroken):
    folder = experiment.parent / "killed"
    status, error = kill(experiment, folder, 1)
    assert status == REQUEUE and len(error.splitlines()) == 1, error
    result, _ = finish(experiment, folder)
    assert result["resumed_from"] and result["params_digest"] == unbroken[0]["params_digest"]
    assert rows_of(folder) == rows_of(experiment.parent / "unbroken")


def test_process_0_killed_ends_the_others_by_name(experiment):
    """JAX has its say as well, for its service has died with it, and Orbax, if it was saving."""
    status, _ = kill(experiment, experiment.parent / "killed_0", 0)
    assert status == REQUEUE


def test_a_signal_to_one_is_one_to_all_and_the_run_goes_on_elsewhere(long_experiment):
    """All checkpoint the same step, in the middle of a window; one process goes on from there."""
    folder = long_experiment.parent / "preempted"
    with Launch(long_experiment, folder) as launch:
        launch.wait_for_checkpoint(30)
        launch.processes[1].send_signal(signal.SIGTERM)
        ended = launch.end()
    assert [status for status, _, _ in ended] == [REQUEUE] * 2, "\n".join(e for *_, e in ended)
    step = max(checkpoints(launch.run))
    for _, _, error in ended:
        assert f"narrow seed 0 at step {step}; launch again" in error and "Traceback" not in error
    assert not (launch.run / "result.json").exists() and 30 < step < LONG
    result = train_here(long_experiment, folder, fsdp=8)
    assert result["resumed_from"] == [step] and result["layout"]["mesh"]["fsdp"] == 8
    unbroken = long_experiment.parent / "unbroken"
    agree(result, folder, train_here(long_experiment, unbroken, data=4), unbroken)


def test_what_one_cannot_do_ends_all(experiment, tmp_path):
    """Process 0 alone opens the folder for writing; the others say why they end, too."""
    (tmp_path / "file").write_text("")
    with Launch(experiment, tmp_path / "file" / "runs") as launch:
        ended = launch.end()
    for status, _, error in ended:
        assert status == 2 and "--workdir" in error and "cannot be written" in error
        assert error.count("launch.py: ") == 1 and "Traceback" not in error
    assert "process 0 (" in ended[1][2]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"num_processes": 2}, ["--coordinator_address", "none", "--num_processes=2"]),
        ({"coordinator_address": "a:1", "process_id": 0}, ["--num_processes", "--process_id=0"]),
        ({"coordinator_address": "a", "num_processes": 2, "process_id": 0}, ["host:port"]),
        ({"coordinator_address": "a:1", "num_processes": 2, "process_id": 2}, ["2", "0 to 1"]),
        ({"coordinator_address": "a:1", "num_processes": 2, "process_id": -1}, ["-1", "0 to 1"]),
        ({"coordinator_address": "a:1", "num_processes": 0, "process_id": 0}, ["at least 1"]),
        ({"cluster_timeout": 0}, ["--cluster_timeout", "at least 1"]),
        ({"heartbeat": float("nan")}, ["--heartbeat", "nan"]),
    ],
)
def test_flags_that_cannot_be(flags, words):
    with pytest.raises(UserError) as error:
        cluster.start_cluster(**flags)
    assert all(word in str(error.value) for word in words), error.value


STEP = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "node[3-4]", "SLURM_LOCALID": "0"}
STEP |= {"SLURM_NTASKS": "2", "SLURM_PROCID": "1"}
MPI = {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911", "OMPI_COMM_WORLD_RANK": "1"}
MPI |= {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


@pytest.fixture
def bare(monkeypatch):
    for name in os.environ:
        if name.startswith(("SLURM", "OMPI", "KUBERNETES", "JOB_", "TPU")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        (STEP, "SLURM"),
        (STEP | {"SLURM_STEP_NUM_TASKS": "2"}, "SLURM"),
        (STEP | {"SLURM_STEP_NUM_TASKS": "1"}, None),  # a shell in an allocation of two tasks
        (STEP | {"SLURM_NTASKS": "1"}, None),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}, None),  # salloc's own shell
        (MPI, "Open MPI"),
        (MPI | {"OMPI_COMM_WORLD_SIZE": "1"}, None),
        (POD, None),  # a pod of its own
        (POD | {"JOB_COMPLETION_INDEX": "0"}, "Kubernetes"),
    ],
)
def test_a_scheduler_is_detected_where_there_are_several(bare, monkeypatch, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cluster.environment() == expected


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (STEP, ("node3", 2, 1)),
        (MPI, ("10.96.0.1", 4, 1)),
    ],
)
def test_what_it_says_is_what_jax_finds(bare, monkeypatch, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    address, *rest = cluster._detect("a scheduler", 1.0)[:3]
    assert (address.split(":")[0], *rest) == expected


def test_a_scheduler_that_does_not_say_is_an_error_that_names_the_flags(bare, monkeypatch):
    for name, value in (STEP | {"SLURM_PROCID": "one"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"SLURM does not say .*--num_processes and --process_id"):
        cluster.start_cluster()


def test_one_process_is_no_cluster(bare):
    assert cluster.start_cluster() == 1
    assert cluster.start_cluster("127.0.0.1:1", 1, 0) == 1
    assert cluster.from_main(lambda: {"a": [1.5]}) == {"a": [1.5]} and cluster.everywhere(True)
    cluster.leave(0)  # of nobody


def test_pmap_is_for_one_process():
    devices = np.array([SimpleNamespace(process_index=i) for i in range(2)])
    mesh = SimpleNamespace(shape={"data": 2, "fsdp": 1, "model": 1}, devices=devices)
    check_parallel("shard_map", mesh)
    with pytest.raises(UserError, match=r"--parallel: found 'pmap' with 2 processes"):
        check_parallel("pmap", mesh)
