"""The command line, in processes of its own: each costs seconds, so bad input that needs no data is
tried with the functions that parse it (test_experiment.py, test_config.py) as well."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import launch as launcher

ROOT = Path(__file__).resolve().parent.parent
QUESTION = '''
"""Does width matter?"""
from research.config import get_config as defaults

def get_config(scale):
    config = defaults()
    config.experiment.baseline = "narrow"
    config.experiment.tune.grid = (0.05, 0.1)
    config.model.name = "mlp"
    config.data.batch_size = 32
    config.train.steps = 4
    config.train.eval_every = config.train.log_every = config.train.diagnostics_every = 2
    return config

def arms(scale):
    return {"narrow": {"model.hidden": (4,)}, "wide": {"model.hidden": (8,)}}

scales = ("laptop",)
'''


@pytest.fixture
def width(tmp_path_factory):
    """The flag that names an experiment outside the repository."""
    path = tmp_path_factory.mktemp("experiment") / "width.py"
    path.write_text(QUESTION)
    return f"--experiment={path}"


def launch(*flags, cwd, timeout=240):
    environment = os.environ | {"XLA_FLAGS": "", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, str(ROOT / "launch.py"), *map(str, flags)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def assert_refused(done, cwd, *words):
    """One message, no traceback, nothing left behind."""
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("launch.py: "), done.stderr
    for word in words:
        assert word in lines[0], lines[0]
    assert done.stdout == "" and list(cwd.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--mode=trian"], ["--mode", "'trian'", "'train'"]),
        (["--exprimnt=x"], ["--exprimnt", "'experiment'"]),
        (["--config.model.nrom=batch"], ["--config.", "model.nrom", "'model.norm'"]),
        (["--config.data.batch_size=many"], ["data.batch_size", "many"]),
        (["extra"], ["'extra'", "flags only"]),
        (["--config.optimizer.learning_rate=-1"], ["optimizer.learning_rate", "-1"]),
        (["--config.data.batch_size=5000"], ["data.batch_size", "5000", "1257"]),
        (["--config.data.name=digts"], ["data.name", "digts"]),
        (["--mesh=model:7"], ["--mesh", "model:7", "divides no kernel"]),
        (["--mesh=data:4", "--config.data.batch_size=6"], ["data.batch_size", "6", "nearest: 8"]),
    ],
    ids=str,
)  # fmt: skip
def test_bad_input(tmp_path, flags, words):
    assert_refused(launch(*flags, cwd=tmp_path), tmp_path, *words)


FLAGS = ("experiment", "scale", "arms", "seeds", "workdir", "data_dir", "mode", "dry_run")
FLAGS += ("model", "checkpoint", "images", "prompt", "temperature", "top_k", "top_p")
FLAGS += ("text", "input", "beams", "alpha", "length")
FLAGS += ("what", "endpoint", "patch", "stride", "fill", "examples")
FLAGS += ("coordinator_address", "num_processes", "process_id", "cluster_timeout", "heartbeat")
FLAGS += ("submit", "slurm")
REFUSED = {
    "--experiment=normalisation": ["--experiment", "'normalization'"],
    "--scale=laptob": ["--scale", "'laptop'"],
    "--arms=batch,grup": ["--arms", "'grup'", "'group'"],
    "--seeds=a": ["--seeds", "'a'"],
    "--config.train.stps=3": ["train.stps", "'train.steps'"],
    "--config.model.norm=bach --arms=batch": ["model.norm", "bach"],
    "--config.optimizer.name=sdg": ["optimizer.name", "'sgd'"],
    "--config.model.depth=9": ["depth", "9"],
    "--config.train.steps=1.5": ["train.steps"],
    "--config.train.steps=5 --config.train.epochs=1": ["train.steps", "train.epochs"],
    "--config.model=3": ["model"],
    "--config.optimizer.clip=value": ["optimizer.clip"],
    "--mesh=data:4,modle:2": ["--mesh", "'modle'", "'model'"],
    "--parallel=shardmap": ["train.parallel", "'shard_map'"],
    "--mode=models --model=resnt20": ["model.name", "'resnet20'"],
    "--model=resnet20": ["--model", "--mode=models", "--config.model.name"],
    "--mode=report": ["--workdir", "no runs"],
    "--mode=report --config.experiment.baseline=group": ["--workdir", "no runs"],
    "--mode=evaluate": ["--workdir", "no finished run"],
    "--mode=evaluate --checkpoint=nowhere": ["--checkpoint", "no such folder", "nowhere"],
    "--mode=predict": ["--checkpoint", "--mode=predict"],
    "--checkpoint=nowhere": ["--checkpoint", "--mode=train", "--mode=evaluate"],
    "--mode=evaluate --images=a.png": ["--images", "--mode=evaluate", "--mode=predict"],
    "--mode=predict --checkpoint=nowhere": ["--images", "--mode=predict"],
    "--mode=predict --checkpoint=nowhere --images=no.png": ["--images", "no.png"],
    "--mode=predict --checkpoint=nowhere --images=launch.py": ["--images"],
    "--mode=inspect --what=all": ["--checkpoint", "--mode=inspect"],
    "--mode=inspect --checkpoint=nowhere": ["--what", "found none", "occlusion"],
    "--mode=inspect --checkpoint=nowhere --what=oclusion": ["'oclusion'", "'occlusion'"],
    "--mode=inspect --checkpoint=nowhere --what=all --examples=0": ["--examples", "0"],
    "--what=occlusion": ["--what", "--mode=train", "--mode=inspect"],
    "--mode=evaluate --patch=3": ["--patch", "--mode=inspect"],
    "--mode=generate": ["--checkpoint", "found none", "--mode=generate"],
    "--mode=translate --config.init_from=x": ["--checkpoint", "found none", "--mode=translate"],
    "--mode=generate --checkpoint=nowhere": ["--checkpoint", "no such folder", "nowhere"],
    "--mode=generate --checkpoint=nowhere --length=ten": ["--length", "'ten'", "expected int"],
    "--mode=translate --checkpoint=nowhere": ["--text", "--input", "neither"],
    "--mode=translate --checkpoint=nowhere --prompt=x": ["--prompt", "--mode=generate"],
    "--mode=generate --checkpoint=nowhere --beams=2": ["--beams", "--mode=translate"],
    "--length=5": ["--length", "--mode=train", "--mode=generate or translate"],
    "--config.train.probes=(\\'bleu\\',)": ["train.probes", "'bleu'", "digits", "multi30k/de-en"],
    "--num_processes=2 --process_id=0": ["--coordinator_address", "none", "--num_processes=2"],
    "--coordinator_address=a --num_processes=2 --process_id=0": ["'a'", "host:port"],
    "--mode=report --heartbeat=3": ["--heartbeat", "--mode=report", "--mode=train"],
    "--submit=slrum": ["--submit", "'slrum'", "'slurm'"],
    "--slurm=partition=gpu": ["--slurm", "--submit=slurm"],
    "--workdir=/dev/null/runs --config.train.steps=1": ["--workdir", "/dev/null/runs"],
}


def test_bad_input_of_every_kind(tmp_path, launch_many):
    messages = [message for _, message in launch_many(REFUSED, tmp_path)]
    assert len(messages) == len(REFUSED), messages
    for (flags, words), message in zip(REFUSED.items(), messages, strict=True):
        for word in words:
            assert word in message, (flags, message)
        assert "|" not in message
    assert list(tmp_path.iterdir()) == []


def test_help_and_list(tmp_path):
    shown = launch("--helpshort", cwd=tmp_path)
    for flag in FLAGS:
        assert f"--{flag}" in shown.stdout or f"--[no]{flag}" in shown.stdout
    assert shown.stderr == ""
    listed = launch("--mode=list", cwd=tmp_path)
    assert listed.returncode == 0 and listed.stderr == ""
    for word in ("normalization", "--scale=laptop", "local_response", "Which normalisation"):
        assert word in listed.stdout
    assert list(tmp_path.iterdir()) == []


def test_dry_run_writes_nothing(tmp_path, width):
    done = launch(width, "--dry_run", "--seeds=3", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    parameters = 64 * 8 + 8 + 8 * 10 + 10
    for word in ("narrow", "model.hidden=(8,)", f"{parameters}", "3 + 2 to tune", "10 runs"):
        assert word in done.stdout, done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_study_from_end_to_end(tmp_path, width, launch_many):
    """Tune, train, report; do what is missing; report and evaluate again; refuse other settings."""
    flags = (width, "--workdir=w")
    done = launch(*flags, "--seeds=1", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    work = tmp_path / "w"
    first = {
        arm: (work / arm / "seed_0" / "result.json").read_bytes() for arm in ("narrow", "wide")
    }
    results = {arm: json.loads(text) for arm, text in first.items()}
    for arm, result in results.items():
        assert result["status"] == "finished" and result["steps"] == 4
        chosen = json.loads((work / arm / "tune.json").read_text())["chosen"]
        assert {"optimizer.learning_rate": result["config"]["optimizer"]["learning_rate"]} == chosen
    for name in ("experiment.json", "report/summary.json", "report/index.html", "report/report.md"):
        assert (work / name).stat().st_size > 0
    assert "wide" in done.stdout and "Report: " in done.stdout

    done = launch(*flags, "--seeds=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for arm, text in first.items():
        assert (work / arm / "seed_0" / "result.json").read_bytes() == text
        assert (work / arm / "seed_1" / "result.json").exists()

    (work / "report" / "summary.json").unlink()
    run = "w/wide/seed_0"
    lines = [
        f"{' '.join(flags)} --mode=evaluate --seeds=1",
        f"--mode=evaluate --checkpoint={run}",
        f"--mode=predict --checkpoint={run} --images={run}/evaluation",
        f"{' '.join(flags)} --mode=report",
    ]
    said, ends = zip(*launch_many(lines, tmp_path), strict=True)
    assert set(ends) == {"accepted"}, ends
    study, checkpoint, predicted, _ = said
    for result in results.values():
        assert study.count(f"{result['metrics']['test/accuracy']:.4f}") >= 2
    assert "macro" in checkpoint
    assert (tmp_path / run / "evaluation" / "roc.png").stat().st_size > 0
    assert "roc.png" in predicted and "confusion_matrix.png" in predicted
    summary = json.loads((work / "report" / "summary.json").read_text())
    assert {name: arm["n"] for name, arm in summary["panels"][0]["arms"].items()} == {
        "narrow": 2,
        "wide": 2,
    }

    done = launch(*flags, "--config.optimizer.momentum=0.5", cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
    assert "optimizer.momentum=0.9" in done.stderr


def test_an_error_in_one_run_ends_the_others_with_one_message(tmp_path, width):
    (tmp_path / "w" / "wide").mkdir(parents=True)
    (tmp_path / "w" / "wide" / "seed_0").write_text("a file where a folder should be")
    flags = ("--config.train.steps=20000", "--config.optimizer.learning_rate=0.1", "--seeds=1")
    done = launch(width, "--workdir=w", *flags, cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1 and "seed_0" in done.stderr, done.stderr
    assert not (tmp_path / "w" / "narrow" / "seed_0" / "result.json").exists()


def test_the_recorded_command_names_no_folder_of_data():
    given = ["--experiment=flowers", "--data_dir=/data/my sets", "--config.data.augment=('flip',)"]
    command = launcher.recorded(given)
    assert command == (
        "python launch.py --experiment=flowers --data_dir=$TFDS_DATA_DIR "
        """'--config.data.augment=('"'"'flip'"'"',)'"""
    )
