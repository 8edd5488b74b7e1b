# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Does batch norm have a rival?
#
# [Ioffe and Szegedy 2015](https://arxiv.org/abs/1502.03167) introduced batch normalisation to train
# faster and at higher learning rates; the group norm of [Wu and He
# 2018](https://arxiv.org/abs/1803.08494) does without the other images of the batch. Here a small
# residual network reads handwritten digits without a norm, with batch norm and with group norm, and
# nothing else differs.

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
# Three of the six norms, two seeds and 100 steps, in less than a minute. All arms share one large
# learning rate, where a norm matters most; the full experiment gives each arm its own best rate,
# chosen on validation. With two seeds the intervals are very wide, as they should be.

# %%
import os
from pathlib import Path

os.environ["TTY_COMPATIBLE"] = "0"  # progress as lines: a notebook cannot redraw bars
workdir = Path("runs/normalization-notebook")
# !{sys.executable} -m launch --experiment=normalization --workdir={workdir} --seeds=2 \
#     --arms=none,batch,group \
#     --config.model.width=8 --config.optimizer.learning_rate=0.3 \
#     --config.train.steps=100 --config.train.eval_every=20 --config.train.checkpoint_every=0 \
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
# ## Why: dead units
#
# Without a norm the first gradients are several times larger in every layer, as the plot of
# gradient norms shows, and at this learning rate such steps leave units that are 0 on every image.
# No gradient passes through a dead unit: where all of the last block are dead, training is over.
# Every run records their share, layer by layer, in its `metrics.jsonl`.

# %%
import matplotlib.pyplot as plt

from research.files import read_rows

figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
for color, norm in enumerate(("none", "batch", "group")):
    for seed, style in enumerate(("-", "--")):
        rows = read_rows(workdir / norm / f"seed_{seed}" / "metrics.jsonl")
        dead = {
            row["step"]: row["diagnostics/dead_units/stage3/block1/act2"]
            for row in rows
            if "diagnostics/dead_units/stage3/block1/act2" in row
        }
        label = f"{norm}, seed {seed}"
        axes.plot(list(dead), dead.values(), style, marker=".", color=f"C{color}", label=label)
axes.set(xlabel="step", ylabel="dead units of the last block (share)", ylim=(-0.05, 1.05))
axes.legend()
plt.show()

# %% [markdown]
# ## The full experiment
#
# From a clone of the repository:
#
# ```
# python launch.py --experiment=normalization
# ```
#
# Six norms, five seeds and 250 steps, each norm at its own best learning rate. The measured
# results and the verdict are in `README.md` beside this notebook.
