# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Do gates let a recurrent network remember for longer?
#
# [Hochreiter and Schmidhuber 1997](https://doi.org/10.1162/neco.1997.9.8.1735) put gates into a
# recurrent network so that a state can be kept for as long as it is needed; the GRU of [Cho et al.
# 2014](https://arxiv.org/abs/1406.1078) does it with two gates in place of three. Their test is the
# adding problem: of fifty random numbers two are marked, and their sum is asked for at the end.
# Whoever always answers 1 has a mean squared error of 1/6. Here a tanh RNN and a GRU try.

# %%
# The address this repository is cloned from; needed only where Ablate is not installed yet: Colab.
REPO_URL = ""

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("research") is None:
    if not REPO_URL:
        raise SystemExit("Ablate is not installed here: set REPO_URL above, and run this again.")
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", f"git+{REPO_URL}"], check=True)

# %% [markdown]
# ## A small version
#
# Two cells over 50 steps, two seeds, 500 updates and one learning rate, in about a minute.

# %%
import os
from pathlib import Path

os.environ["TTY_COMPATIBLE"] = "0"  # progress as lines: a notebook cannot redraw bars
workdir = Path("runs/gating-notebook")
# !{sys.executable} -m launch --experiment=gating --workdir={workdir} --seeds=2 \
#     --arms=rnn-T50,gru-T50 --config.optimizer.learning_rate=0.01 \
#     --config.train.steps=500 --config.train.eval_every=50 --config.train.checkpoint_every=0 \
#     --config.train.log_every=50 --config.train.diagnostics_every=250
assert _exit_code == 0, "the launch failed: its message is above"

# %%
import pandas as pd

from research.report import table

pd.DataFrame(table(workdir))

# %%
from IPython.display import Image, display

for plot in sorted((workdir / "report").glob("*.png")):
    display(Image(plot))

# %% [markdown]
# ## Why: the gradient through time
#
# How much does the loss at the end change with the state at each step? Before training the GRU's
# gradient vanishes faster than the tanh RNN's: its gates start half open, and each step lets half
# of the state through. What gates can do is *learn* to keep it: where training solved the problem,
# the GRU's gradient is level. Every run records these norms in its `metrics.jsonl`.

# %%
import matplotlib.pyplot as plt

from research.files import read_rows

PREFIX = "diagnostics/state_gradient/layer1_forward/t="
figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
for color, cell in enumerate(("rnn", "gru")):
    rows = read_rows(workdir / f"{cell}-T50" / "seed_0" / "metrics.jsonl")
    rows = [row for row in rows if f"{PREFIX}1" in row]
    for row, style, when in ((rows[0], ":", "before training"), (rows[-1], "-", "after")):
        norms = {int(k.removeprefix(PREFIX)): v for k, v in row.items() if k.startswith(PREFIX)}
        steps = sorted(norms)
        norms = [norms[step] for step in steps]
        axes.semilogy(steps, norms, style, color=f"C{color}", label=f"{cell}, {when}")
axes.set(xlabel="step of the sequence", ylabel="gradient norm of the state")
axes.legend()
plt.show()

# %% [markdown]
# ## The full experiment
#
# From a clone of the repository:
#
# ```
# python launch.py --experiment=gating
# ```
#
# Four cells, two lengths and five seeds, each arm at its better learning rate. The measured results
# and the verdict are in `README.md` beside this notebook.
