"""The ready files of experiments/cluster, as far as they can be judged without a cluster."""

import copy
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml
from jobset_schema import SCHEMA

import launch
from research.config import REQUEUE

HERE = Path(__file__).resolve().parents[2] / "experiments/cluster"


@pytest.fixture
def jobset():
    return yaml.safe_load((HERE / "jobset.yaml").read_text())


def job_of(jobset):
    (workers,) = jobset["spec"]["replicatedJobs"]
    return workers["template"]["spec"]


def valid(manifest):
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(manifest)


def test_the_manifest_is_valid(jobset):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(jobset, SCHEMA, jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("completionMode",), "indexed"),
        (("paralelism",), 4),
        (("completions",), "4"),
        (("template", "spec", "restartPolicy"), "OnFailure"),
        (("podFailurePolicy", "rules", 0, "action"), "Retry"),
        (("podFailurePolicy", "rules", 0, "onExitCodes", "values"), [0]),
        (("podFailurePolicy", "rules", 1, "onExitCodes"), {"operator": "In", "values": [1]}),
        (("template", "spec", "containers", 0, "command"), "python launch.py"),
        (("template", "spec", "volumes", 0, "persistentVolumeClaim"), {}),
    ],
    ids=str,
)
def test_the_schema_refuses_what_a_server_would(jobset, path, value):
    broken = copy.deepcopy(jobset)
    inner = job_of(broken)
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    assert valid(jobset) and not valid(broken)


def test_the_manifest_starts_as_many_processes_as_it_has_machines(jobset):
    """They find process 0 by the name that JobSet gives its pod, and know their number from it."""
    job, name = job_of(jobset), jobset["metadata"]["name"]
    (container,) = job["template"]["spec"]["containers"]
    (workers,) = jobset["spec"]["replicatedJobs"]
    flags = dict(a.removeprefix("--").split("=", 1) for a in container["command"][2:])
    assert flags["coordinator_address"].split(":")[0] == f"{name}-{workers['name']}-0-0.{name}"
    assert int(flags["num_processes"]) == job["completions"] == job["parallelism"]
    assert flags["process_id"] == "$(JOB_COMPLETION_INDEX)" and workers["replicas"] == 1
    assert flags.keys() <= set(launch.flags.FLAGS)
    assert flags["workdir"].startswith(container["volumeMounts"][0]["mountPath"])


def test_a_checkpointed_run_is_no_failure_and_a_mistake_is_not_tried_again(jobset):
    rules = job_of(jobset)["podFailurePolicy"]["rules"]
    codes = {r["action"]: r["onExitCodes"]["values"] for r in rules if "onExitCodes" in r}
    assert codes == {"Ignore": [REQUEUE], "FailJob": [2]}


@pytest.mark.parametrize("name", ["slurm.sbatch", "tpu.sh"])
def test_the_scripts_parse_and_know_the_status_to_go_on_after(name):
    path = HERE / name
    subprocess.run(["bash", "-n", path], check=True, timeout=20)
    assert f"status == {REQUEUE}" in path.read_text()
    for flag in re.findall(r"--(\w+)=", " ".join(re.findall(r"launch\.py (.*)", path.read_text()))):
        assert flag in set(launch.flags.FLAGS) | {"slurm"}


GCLOUD = """#!/bin/bash
cd "$HOME"
echo "$@" >> calls
case "$*" in
  *describe*) cat state ;;
  *create*) echo ACTIVE > state ;;
  *delete*) : > state ;;
  *launch.py*) read -r first < statuses; sed -i 1d statuses; exit "$first" ;;
esac
"""


def test_the_tpu_script_launches_again_until_the_run_ends_and_gives_the_slice_back(tmp_path):
    """With a gcloud that only writes down what it is asked."""
    if not shutil.which("git") or not (HERE.parents[1] / ".git").exists():
        pytest.skip("needs git, and a checkout")
    (tmp_path / "bin").mkdir()
    gcloud = tmp_path / "bin" / "gcloud"
    gcloud.write_text(GCLOUD)
    gcloud.chmod(0o755)
    (tmp_path / "state").write_text("")
    (tmp_path / "statuses").write_text("75\n255\n0\n")
    environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "HOME": str(tmp_path)}
    environment |= {"PROJECT": "mine", "ZONE": "here", "SHARE": "host:/share", "SPOT": "1"}
    done = subprocess.run(
        ["bash", HERE / "tpu.sh", "--experiment=normalization", "--config.model.hidden=(4,)"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    launches = [call for call in calls if "launch.py" in call]
    assert len(launches) == 3 and all("--worker=all" in call for call in launches)
    assert "--experiment=normalization" in launches[0] and r"\(4\,\)" in launches[0]
    assert sum("queued-resources create" in call for call in calls) == 1
    assert "--spot" in next(call for call in calls if "create" in call)
    assert "queued-resources delete" in calls[-1]
