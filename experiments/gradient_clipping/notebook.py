# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Does gradient clipping keep a deep network without normalisation from diverging?
#
# [Pascanu et al. 2013](https://arxiv.org/abs/1211.5063) rescale a gradient whose norm exceeds a
# threshold, because one step along an exploding gradient can undo all training; [Brock et al.
# 2021](https://arxiv.org/abs/2102.06171) clip so as to train residual networks without batch norm.
# Here a residual network of 20 layers without a norm reads handwritten digits, clipped and not,
# over a hundredfold range of learning rates.

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
# No clipping against a global norm of at most 1, at three learning rates, two seeds and 60 steps,
# in less than a minute.

# %%
import os
from pathlib import Path

os.environ["TTY_COMPATIBLE"] = "0"  # progress as lines: a notebook cannot redraw bars
workdir = Path("runs/gradient_clipping-notebook")
# !{sys.executable} -m launch --experiment=gradient_clipping --workdir={workdir} --seeds=2 \
#     --arms='none-lr*3,global_norm-lr*3' \
#     --config.experiment.baseline=none-lr0.003 \
#     --config.train.steps=60 --config.train.eval_every=20 --config.train.checkpoint_every=0
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
# ## Why: the norm before clipping
#
# Every run here records the norm of each step's gradient before clipping. The two runs of a seed
# share their network and first batch, so that both curves start at one point, far above the
# threshold. At this learning rate the first step without clipping makes the next gradient larger by
# orders of magnitude, and the run is over within a few steps; with clipping the norm comes down
# instead, and training goes on.

# %%
import matplotlib.pyplot as plt

from research.files import read_rows

figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
for color, clip in enumerate(("none", "global_norm")):
    for seed in (0, 1):
        rows = read_rows(workdir / f"{clip}-lr0.3" / f"seed_{seed}" / "metrics.jsonl")
        finite = {row["step"]: n for row in rows if (n := row["gradient_norm"]) is not None}
        label = clip if seed == 0 else None
        axes.loglog(list(finite), finite.values(), ".-", color=f"C{color}", label=label)
axes.axhline(1, color="black", linestyle=":", label="threshold")
axes.set(xlabel="step", ylabel="gradient norm before clipping", title="learning rate 0.3")
axes.legend(title="clip")
plt.show()

# %% [markdown]
# ## The full experiment
#
# From a clone of the repository:
#
# ```
# python launch.py --experiment=gradient_clipping
# ```
#
# Four kinds of clipping, six learning rates, ten seeds and 150 steps. The measured results and the
# verdict are in `README.md` beside this notebook.
