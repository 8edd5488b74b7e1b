# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # With few examples of new classes, is it better to start from a network that knows others?
#
# [Yosinski et al. 2014](https://arxiv.org/abs/1411.1792) measured how well the features that a
# network learnt on one half of ImageNet's classes serve the other half: frozen, or as the start of
# fine-tuning. Here the halves are of handwritten digits. A residual network has learnt to tell 0 to
# 4 apart, and is to learn 5 to 9 from twenty examples.

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
# The same network from fresh parameters, over frozen features, and fine-tuned; three seeds, 100
# steps and one learning rate, in about a minute. The network that knows 0 to 4 is trained first.

# %%
import os
from pathlib import Path

os.environ["TTY_COMPATIBLE"] = "0"  # progress as lines: a notebook cannot redraw bars
workdir = Path("runs/transfer-notebook")
# !{sys.executable} -m launch --experiment=transfer --workdir={workdir} --seeds=3 \
#     --arms=n20-scratch,n20-frozen,n20-finetuned --config.experiment.baseline=n20-scratch \
#     --config.optimizer.learning_rate=0.1 \
#     --config.train.steps=100 --config.train.eval_every=20 --config.train.checkpoint_every=0
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
# ## Why: what the features leave over
#
# A network that has all of its layers to change learns twenty examples by heart. Over frozen
# features only the last layer changes, and what told 0 to 4 apart does not always tell 5 from 9:
# the loss on the training examples themselves stays higher, and so does the error on the test.
# Every run's `result.json` has both.

# %%
import json

import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
for start in ("scratch", "frozen", "finetuned"):
    paths = sorted((workdir / f"n20-{start}").glob("seed_*/result.json"))
    metrics = [json.loads(path.read_text())["metrics"] for path in paths]
    x, y = ([run[name] for run in metrics] for name in ("train/loss", "test/accuracy"))
    axes.semilogx(x, y, "o", label=start)
axes.set(xlabel="loss on the twenty examples", ylabel="test accuracy")
axes.legend()
plt.show()

# %% [markdown]
# ## The full experiment
#
# From a clone of the repository:
#
# ```
# python launch.py --experiment=transfer
# ```
#
# Ten to 350 examples and eight seeds, each arm at its own best learning rate. The measured results
# and the verdict are in `README.md` beside this notebook.
