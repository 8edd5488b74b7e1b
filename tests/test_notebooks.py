"""The notebooks: each is its script, and runs as a reader would run it.

    python tests/test_notebooks.py

writes every `notebook.ipynb` from the `notebook.py` beside it.
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(ROOT.glob("experiments/*/notebook.py"))
each_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.parent.name)


def built(script):
    """Return the notebook of a script: without outputs, and the same whenever it is built."""
    notebook = jupytext.read(script)
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", {}
    return nbformat.writes(notebook, version=4) + "\n"


def test_each_is_an_experiments():
    assert len(SCRIPTS) >= 5
    for script in SCRIPTS:
        assert (script.parent / "config.py").exists()
        assert script.with_suffix(".ipynb").exists()


@each_script
def test_is_its_script(script):
    text = script.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert text == built(script), "write it again: python tests/test_notebooks.py"
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert sum('\nREPO_URL = ""' in f"\n{cell.source}" for cell in notebook.cells) == 1


def test_their_launches_are_valid_ones(tmp_path, launch_many):
    lines = []
    for script in SCRIPTS:
        (line,) = re.findall(
            r"^# !\{sys.executable\} -m launch ((?:.*\\\n)*.*)$", script.read_text(), re.M
        )
        lines.append(re.sub(r"\\\n#", "", line).replace("{workdir}", "runs") + " --dry_run")
    ends = [message for _, message in launch_many(lines, tmp_path)]
    assert ends == ["accepted"] * len(SCRIPTS)


@pytest.mark.parametrize("name", os.environ.get("ABLATE_NOTEBOOKS", "pooling").split(","))
def test_runs(name, tmp_path):
    """One of them, from one template as all, and by ABLATE_NOTEBOOKS any: each takes its time."""
    (script,) = (path for path in SCRIPTS if path.parent.name == name)
    text = script.with_suffix(".ipynb").read_text("utf-8")
    # A tenth of the steps: what takes long is the training, not what a notebook has to show.
    text = re.sub(r"(train\.\w+=)(\d+)0\b", r"\1\2", text)
    notebook = nbformat.reads(text, as_version=4)
    # Without directories to look in, the one kernel there is runs on this interpreter.
    kernel = AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    client = NotebookClient(notebook, km=kernel, timeout=240)
    environment = os.environ | {"XLA_FLAGS": ""}  # one device, not eight that each compile
    client.execute(cwd=str(tmp_path), env=environment, cleanup_kc=True)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    shown = [set(output.get("data", ())) for output in outputs]
    assert sum("image/png" in kinds for kinds in shown) >= 2
    assert sum("text/html" in kinds for kinds in shown) == 1  # the table
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


@pytest.fixture
def absent(monkeypatch):
    """Ablate not installed, and a pip that only takes notes: its commands."""
    commands = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda command, check: commands.append(command))
    return commands


@each_script
@pytest.mark.parametrize("address", ["", "file:///clones/ablate"])
def test_install(script, address, absent):
    constant, install = [c.source for c in jupytext.read(script).cells if c.cell_type == "code"][:2]
    code = constant.replace('REPO_URL = ""', f'REPO_URL = "{address}"') + "\n" + install
    if address:
        exec(code, {})
        assert absent == [[sys.executable, "-m", "pip", "install", "-q", f"git+{address}"]]
    else:
        with pytest.raises(SystemExit, match="set REPO_URL above"):
            exec(code, {})
        assert absent == []


if __name__ == "__main__":
    for path in SCRIPTS:
        path.with_suffix(".ipynb").write_text(built(path), encoding="utf-8")
