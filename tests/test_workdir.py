import dataclasses
import errno
import json
import os
import subprocess
import sys

import pytest

from research import workdir
from research.config import UserError
from research.data.sources import load_dataset
from research.experiment import resolve
from research.files import write_json
from research.train import record
from research.train.record import code_digest, differing, facts

LAPTOP = {"experiment": "normalization", "scale": "laptop"}


@pytest.fixture
def study(tmp_path):
    return study_in(tmp_path / "runs")


def study_in(folder, **changes):
    return resolve(
        "normalization",
        "laptop",
        overrides={k.replace("__", "."): v for k, v in changes.items()},
        arms=["batch", "group"],
        seeds=(0,),
        workdir=str(folder),
    )


def test_an_empty_or_missing_folder_is_free(study, digits):
    workdir.check(study, study.runs(), lambda _: digits)
    assert not study.workdir.exists()
    study.workdir.mkdir()
    workdir.check(study, study.runs(), lambda _: digits)


@pytest.mark.parametrize("field", ["experiment", "scale"])
def test_runs_of_another_study_are_refused(study, field):
    write_json(study.workdir / "experiment.json", LAPTOP | {field: "another"})
    with pytest.raises(UserError, match=rf"--workdir: .*--{field}=another"):
        workdir.check(study, [], None)


def test_runs_of_another_config_are_refused_by_field(study, tmp_path, digits):
    for run in study.runs():
        write_json(run.directory / "config.json", run.settings(digits))
    workdir.check(study, study.runs(), lambda _: digits)
    for changes, field in (
        ({"optimizer__momentum": 0.5}, "optimizer.momentum=0.9"),
        ({"train__steps": 7}, "train.steps="),
        ({"data__augment": ("flip",)}, "data.augment"),
    ):
        other = study_in(study.workdir, **changes)
        with pytest.raises(UserError, match=r"--workdir: .*seed_0") as error:
            workdir.check(other, other.runs(), lambda _: digits)
        assert field in str(error.value)


def test_what_changes_no_number_may_change(study, digits):
    for run in study.runs():
        write_json(run.directory / "config.json", run.settings(digits))
    same = study_in(study.workdir, data__feed="streaming", train__keep=5, train__tensorboard=False)
    workdir.check(same, same.runs(), lambda _: digits)


def test_other_data_of_the_same_name_is_refused(study, digits):
    for run in study.runs():
        write_json(run.directory / "config.json", run.settings(digits))
    other = load_dataset("digits", validation=0.3)
    with pytest.raises(UserError, match=r"--workdir: .*dataset\."):
        workdir.check(study, study.runs(), lambda _: other)


def test_classes_of_other_names_are_refused_where_they_are_recorded(study, digits):
    other = dataclasses.replace(digits, class_names=("null", *digits.class_names[1:]))
    for run in study.runs():
        write_json(run.directory / "config.json", run.settings(other))
    with pytest.raises(UserError, match=r"--workdir: .*dataset\.class_names"):
        workdir.check(study, study.runs(), lambda _: digits)
    for run in study.runs():
        before = run.settings(other)
        del before["dataset"]["class_names"]  # as in older runs
        write_json(run.directory / "config.json", before)
    workdir.check(study, study.runs(), lambda _: digits)
    assert differing(facts(other), facts(digits)) == ("class 0", "'null'", "'0'")
    assert differing(before["dataset"], facts(digits)) is None
    few = load_dataset("digits", classes=(0, 1))
    assert differing(facts(few), facts(digits)) == ("classes", 2, 10)


def test_a_target_that_changes_a_metric_may_not(study, digits):
    for run in study.runs():
        write_json(run.directory / "config.json", run.settings(digits))
    other = study_in(study.workdir, experiment__target_accuracy=0.5)
    with pytest.raises(UserError, match="target_accuracy"):
        workdir.check(other, other.runs(), lambda _: digits)


def test_a_damaged_record_is_named(study):
    study.workdir.mkdir()
    (study.workdir / "experiment.json").write_text("{")
    with pytest.raises(UserError, match=r"experiment\.json"):
        workdir.check(study, [], None)


def test_a_live_launch_keeps_others_out(tmp_path):
    """The other launch is another process, and its death frees the folder."""
    script = (
        "import sys; from pathlib import Path; from research.workdir import locked\n"
        "with locked(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "runs")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other:
        assert other.stdout.readline() == "in\n"
        with (
            pytest.raises(UserError, match=rf"in use by a live launch .process {other.pid}"),
            workdir.locked(tmp_path / "runs"),
        ):
            pass
        other.kill()
        other.wait()
        with workdir.locked(tmp_path / "runs"):
            assert (tmp_path / "runs" / ".lock").read_text() == str(os.getpid())
    with workdir.locked(tmp_path / "runs"):  # and again, once it is over
        pass


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "runs"):
        with (
            pytest.raises(UserError, match=r"--workdir: .*cannot be written"),
            workdir.locked(folder),
        ):
            pass


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_fails_while_it_runs_is_one_sentence(tmp_path, number):
    with (
        pytest.raises(UserError, match=r"--workdir: .*cannot be written") as error,
        workdir.locked(tmp_path),
    ):
        raise OSError(number, os.strerror(number))
    assert os.strerror(number) in str(error.value)


def test_tensorstore_says_so_in_its_own_words(tmp_path):
    with pytest.raises(UserError, match="No space left"), workdir.locked(tmp_path):
        raise ValueError(
            "RESOURCE_EXHAUSTED: Error writing: [OS error 28: No space left on device]"
        )


def test_other_errors_pass_through(tmp_path):
    with pytest.raises(ZeroDivisionError), workdir.locked(tmp_path):
        raise ZeroDivisionError


def test_the_record_joins_launches(study, digits):
    workdir.describe(study, digits, "python launch.py --arms=batch,group")
    more = resolve("normalization", "laptop", arms=["none"], seeds=(4,), workdir=str(study.workdir))
    workdir.describe(more, digits, "python launch.py --arms=none --seeds=4,")
    record = json.loads((study.workdir / "experiment.json").read_text())
    assert record["arms"] == ["batch", "group", "none"] and record["seeds"] == [0, 4]
    assert record["command"].splitlines() == [
        "python launch.py --arms=batch,group",
        "python launch.py --arms=none --seeds=4,",
    ]
    assert (
        record["chance"]["test/accuracy"] == 0.1 and record["baseline"] == study.settings.baseline
    )
    assert {p["metric"]: p["direction"] for p in record["panels"]} == {
        "test/accuracy": "max",
        "test/loss": "min",
        "steps_to_accuracy": "min",
    }


def test_runs_made_by_other_code_are_told(study):
    assert workdir.other_code(study.runs()) is None
    first, second = study.runs()
    write_json(first.directory / "result.json", {"code": {"sha256": code_digest()}})
    assert workdir.other_code(study.runs()) is None
    write_json(second.directory / "result.json", {"code": {"sha256": "0123"}})
    assert workdir.other_code(study.runs()).startswith("1 of 2 finished runs were made by other")
    write_json(first.directory / "result.json", {})  # from before it was recorded
    assert workdir.other_code(study.runs()).startswith("2 of 2")


def test_the_digest_is_of_the_code_that_makes_numbers(monkeypatch, tmp_path):
    def digest(**files):
        for name, text in files.items():
            path = tmp_path / "research" / name.replace("__", "/").replace("_py", ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        code_digest.cache_clear()
        return code_digest()

    real = code_digest()
    monkeypatch.setattr(record, "__file__", str(tmp_path / "research/train/record.py"))
    before = digest(train__loop_py="1", report__page_py="1")
    assert before != real and len(before) == 12
    assert digest(report__page_py="2") == before
    assert digest(train__loop_py="2") != before
    assert digest(train__loop_py="1") == before
    code_digest.cache_clear()


def test_launches_on_other_arms_share_a_workdir(tmp_path):
    with workdir.locked(tmp_path, ["a", "b"]):
        with workdir.locked(tmp_path, ["c"]):
            pass
        with (
            pytest.raises(UserError, match=rf"--workdir: {tmp_path}/b is in use by a live launch"),
            workdir.locked(tmp_path, ["c", "b"]),
        ):
            pass
        with workdir.locked(tmp_path, ["c"]):  # which the refused one has let go
            pass


def test_launches_take_turns_to_write_what_they_share(tmp_path):
    """Each of them adds to the number that the others leave."""
    script = (
        "import sys, time; from pathlib import Path; from research.workdir import turn\n"
        "folder = Path(sys.argv[1]); path = folder / 'n'\n"
        "for _ in range(20):\n"
        "    with turn(folder):\n"
        "        n = int(path.read_text()); time.sleep(0.001); path.write_text(str(n + 1))\n"
    )
    (tmp_path / "n").write_text("0")
    others = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path)]) for _ in range(2)]
    assert [other.wait(60) for other in others] == [0, 0]
    assert (tmp_path / "n").read_text() == "40"
