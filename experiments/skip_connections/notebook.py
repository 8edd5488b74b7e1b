# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # What does a skip connection buy, at which depth?
#
# [He et al. 2015](https://arxiv.org/abs/1512.03385) found that a plain convolutional network gets
# worse as it gets deeper, on the images that it is trained on too, and that adding each block's
# input to its output mends this. Here plain and residual networks of 8 and of 32 layers, all with
# batch norm, read handwritten digits.

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
# Two depths with and without the skip, two seeds, 60 steps and one learning rate for all, in about
# a minute. Most of it compiles the deep networks.

# %%
import os
from pathlib import Path

os.environ["TTY_COMPATIBLE"] = "0"  # progress as lines: a notebook cannot redraw bars
workdir = Path("runs/skip_connections-notebook")
# !{sys.executable} -m launch --experiment=skip_connections --workdir={workdir} --seeds=2 \
#     --arms=d8-none,d8-identity,d32-none,d32-identity \
#     --config.optimizer.learning_rate=0.1 --config.optimizer.schedule.warmup=0.1 \
#     --config.train.steps=60 --config.train.eval_every=20 --config.train.checkpoint_every=0 \
#     --config.train.log_every=5 --config.train.diagnostics_every=20
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
# ## Why: the first gradient
#
# Vanishing gradients are not what stops the deep plain network: with batch norm its gradient
# *grows* from layer to layer on its way back to the input ([Yang et al.
# 2019](https://arxiv.org/abs/1902.08129) derive that it must), so that no one learning rate suits
# the first layers and the last. The skip keeps it nearly level. Every run records the gradient norm
# of each layer in its `metrics.jsonl`; the first row is before any update.

# %%
from research.files import read_rows

for depth in (8, 32):
    for skip in ("none", "identity"):
        first = read_rows(workdir / f"d{depth}-{skip}" / "seed_0" / "metrics.jsonl")[0]
        norms = {
            key.removeprefix("diagnostics/gradient_norm/"): value
            for key, value in first.items()
            if key.startswith("diagnostics/gradient_norm/stage")
        }
        (early, largest), *_, (late, smallest) = norms.items()
        print(
            f"{depth:2} layers, skip {skip:8}  {early} {largest:5.2f}, {late} {smallest:5.2f}: "
            f"a ratio of {largest / smallest:.1f}"
        )

# %% [markdown]
# ## The full experiment
#
# From a clone of the repository:
#
# ```
# python launch.py --experiment=skip_connections
# ```
#
# Four depths, four kinds of skip and five seeds, each arm at its own best pair of learning rate and
# warm-up. The measured results and the verdict are in `README.md` beside this notebook.
