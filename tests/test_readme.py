"""The README's examples do what it says of them."""

import re
from pathlib import Path

import pytest

from research.commands.train import run_study
from research.experiment import experiments, resolve

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
QUESTIONS = {name: text for text in BLOCKS for name in re.findall(r'^"""Does (.*)\?"""', text)}


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_experiment_of_the_readme_runs(question, tmp_path, capsys):
    (tmp_path / "question.py").write_text(QUESTIONS[question])
    shrunk = {"train.steps": 2, "train.eval_every": 1, "data.batch_size": 16}
    study = resolve(
        str(tmp_path / "question.py"),
        "laptop",
        overrides=shrunk | ({} if "gate" in question else {"model.width": 4}),
        seeds=(0,),
        workdir=str(tmp_path / "w"),
    )
    assert study.title == f"Does {question}?"
    run_study(study, None, command="test")
    assert "Report: " in capsys.readouterr().out
    plot = "heat_map" if "deeper" in question else "final"
    assert (tmp_path / f"w/report/{plot}.png").exists()


def test_there_are_three_of_them():
    assert len(QUESTIONS) == 3


def test_the_lines_from_python_run():
    (text,) = [block for block in BLOCKS if block.startswith("import jax")]
    names = {}
    exec(text, names)
    assert names["logits"].shape == (2, 100) and "stem/act" in names["endpoints"]
    (text,) = [block for block in BLOCKS if block.startswith("from research.inspection")]
    exec(text, names)
    assert (names["rows"].size, names["rows"].stride) == (21, 2)


def test_links_lead_to_files_and_every_experiment_has_its_row():
    root = Path(__file__).resolve().parent.parent
    for path in [root / "README.md", *root.glob("experiments/*/README.md")]:
        for link in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / link).exists(), f"{path}: {link}"
    for name in experiments():
        assert f"(experiments/{name}/README.md)" in README, name
