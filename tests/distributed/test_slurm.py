"""Launches under a real SLURM of one node, where it is installed."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from research.commands import submit
from research.config import UserError
from research.experiment import resolve

ROOT = Path(__file__).resolve().parents[2]
CHANGES = {
    **{"experiment.panels": ("test/loss",), "data.batch_size": 32, "data.train_size": 320},
    **{"train.steps": 60, "train.eval_every": 30},
}
WIDE = {"model.hidden": (8,)}
# Several seconds: a signal takes one or two from scancel to the loop.
LONG = {"train.steps": 600, "train.eval_every": 200, "train.log_every": 5}


@pytest.fixture(scope="module")
def slurm(tmp_path_factory, width):
    """What `subprocess.run` takes to be in a folder from which jobs can be submitted."""
    missing = [name for name in ("slurmctld", "slurmd", "munged", "sbatch") if not _which(name)]
    if missing or os.geteuid():
        pytest.skip(f"needs root and SLURM (slurm-wlm, munge); missing: {', '.join(missing)}")
    folder = tmp_path_factory.mktemp("slurm")
    with socket.create_server(("", 0)) as one, socket.create_server(("", 0)) as two:
        ports = [str(server.getsockname()[1]) for server in (one, two)]
    script = Path(__file__).with_name("one_node_slurm.sh")
    environment = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "XLA_FLAGS": ""}
    environment |= {"SLURM_CONF": str(folder / "slurm.conf"), "PYTHON": sys.executable}
    options = {"env": environment, "cwd": folder, "text": True, "timeout": 60}
    width(folder, CHANGES, wide=WIDE)
    (folder / "launch.py").symlink_to(ROOT / "launch.py")  # jobs are submitted from beside it
    log = (folder / "start.log").open("w")
    try:
        # Into a file: the daemons that stay would hold a pipe open.
        done = subprocess.run([script, "start", folder, *ports], stdout=log, stderr=log, **options)
        assert done.returncode == 0, (folder / "start.log").read_text()
        yield options | {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        subprocess.run(["scancel", "--user=root"], check=True, **options)
    finally:
        subprocess.run([script, "stop", folder], **options)
        log.close()


def _which(name):
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def state(slurm, job):
    shown = subprocess.run(["scontrol", "show", "job", "--oneliner", job], **slurm).stdout
    return re.findall(r"JobState=(\w+)", shown)


def wait_for(ready, seconds=90):
    deadline = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def test_the_script_runs_is_preempted_and_goes_on(slurm):
    """Two tasks find each other; a SIGTERM puts the job back, and it ends where it would have."""
    folder = slurm["cwd"]
    flags = ["--experiment=width.py", "--arms=wide", "--workdir=runs", "--mesh=data:2"]
    flags += [f"--config.{name}={value}" for name, value in LONG.items()]
    script = ROOT / "experiments/cluster/slurm.sbatch"
    done = subprocess.run(
        ["sbatch", "--parsable", "--ntasks=2", "--output=job.log", script, *flags], **slurm
    )
    assert done.returncode == 0, done.stdout
    job = done.stdout.strip().splitlines()[-1]
    rows = folder / "runs/wide/seed_0/metrics.jsonl"
    wait_for(lambda: rows.exists() and rows.read_text())
    subprocess.run(["scancel", "--signal=TERM", job], check=True, **slurm)  # as it preempts
    wait_for(lambda: state(slurm, job) == ["COMPLETED"])
    said = (folder / "job.log").read_text()
    assert "SIGTERM: stopped wide seed 0 at step" in said, said
    assert "status 75, back into" in said, said
    assert "Traceback" not in said
    result = json.loads((rows.parent / "result.json").read_text())
    assert result["steps"] == LONG["train.steps"] and len(result["resumed_from"]) == 1
    assert result["layout"]["mesh"]["data"] == 2


def test_arms_are_submitted_as_an_array_and_gathered(slurm):
    flags = ["--experiment=width.py", "--workdir=array"]
    launch = [sys.executable, "launch.py", *flags]
    done = subprocess.run(
        [*launch, "--submit=slurm", "--slurm=partition=all,time=10,cpus_per_task=1"], **slurm
    )
    assert done.returncode == 0, done.stdout
    job = re.search(r"Submitted job (\d+) into .*, 2 tasks", done.stdout)[1]
    assert f"{job}_1  wide" in done.stdout and "--workdir=array --mode=report" in done.stdout
    wait_for(lambda: set(state(slurm, job)) == {"COMPLETED"})
    array = slurm["cwd"] / "array"
    record = json.loads((array / "experiment.json").read_text())
    assert sorted(record["arms"]) == ["narrow", "wide"]
    assert len(list(array.glob("*/seed_0/result.json"))) == 2
    page = (array / "report/index.html").read_text()  # of the task that ended last
    assert "narrow" in page and "wide" in page


def test_what_slurm_refuses_is_one_sentence(slurm):
    launch = [sys.executable, "launch.py", "--experiment=width.py", "--workdir=none"]
    done = subprocess.run([*launch, "--submit=slurm", "--slurm=partition=gold"], **slurm)
    assert done.returncode == 2 and "Traceback" not in done.stdout
    message = done.stdout.strip().splitlines()[-1]
    assert message.startswith("launch.py: --submit: sbatch refused with --slurm=partition=gold: ")


@pytest.fixture
def study(tmp_path, width):
    return resolve(str(width(tmp_path, CHANGES, wide=WIDE)), "laptop", workdir=str(tmp_path))


@pytest.mark.parametrize(
    ("scheduler", "options", "words"),
    [
        ("slrum", "", ["--submit", "'slrum'", "'slurm'"]),
        ("slurm", "partitoin=gpu", ["--slurm", "'partitoin'", "'partition'"]),
        ("slurm", "gpu", ["--slurm", "'gpu'", "key=value"]),
        ("slurm", "time=1:00", ["--slurm", "'1:00'", "minutes"]),
    ],
)
def test_options_that_do_not_exist(study, monkeypatch, scheduler, options, words):
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/sbatch")
    with pytest.raises(UserError) as error:
        submit.submit(study, scheduler, options, [])
    assert all(word in str(error.value) for word in words), error.value


def test_a_machine_without_slurm_or_submitit_is_an_error(study, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=r"--submit: found no sbatch"):
        submit.submit(study, "slurm", "", [])
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"--submit: found no submitit.*ablate\[slurm\]"):
        submit.submit(study, "slurm", "", [])


def test_arms_that_start_from_the_same_arm_share_a_task(tmp_path, width):
    arms = {
        "a": {"init_from": "arm:source"},
        "wide": WIDE,
        "b": {"init_from": "arm:a", "optimizer.learning_rate": 0.01},
        "source": {"optimizer.learning_rate": 0.3},
    }
    study = resolve(str(width(tmp_path, CHANGES, **arms)), "laptop", workdir=str(tmp_path))
    assert submit.together(study) == [["narrow"], ["a", "b", "source"], ["wide"]]
