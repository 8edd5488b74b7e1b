# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # At which depths and learning rates does training work at all?
#
# [Bjorck et al. 2018](https://arxiv.org/abs/1806.02375) trace most of what batch norm gives to the
# larger learning rates that it permits; [He et al. 2015](https://arxiv.org/abs/1512.03385) trace
# what skips give to depth. Here both axes are swept at once: networks of 8 and 20 layers at three
# learning rates, plain, and with both remedies.

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
# The two extremes, neither remedy and both, at two of the four depths and three of the six learning
# rates; two seeds and 40 steps, in half a minute.

# %%
import os
from pathlib import Path

os.environ["TTY_COMPATIBLE"] = "0"  # progress as lines: a notebook cannot redraw bars
workdir = Path("runs/depth_lr_map-notebook")
# !{sys.executable} -m launch --experiment=depth_lr_map --workdir={workdir} --seeds=2 \
#     --arms='none-none-d8-*3,none-none-d20-*3,batch-identity-d8-*3,batch-identity-d20-*3' \
#     --config.train.steps=40 --config.train.eval_every=20 --config.train.checkpoint_every=0
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
# ## The same map from the side
#
# Each run's `result.json` holds its config and its test accuracy. As curves, the map shows how wide
# the band of learning rates is in which training works, and where its best is. Without norm and
# skip the band is narrow at 8 layers and gone at 20, in so few steps; with both it is wide at
# either depth, and the deeper network wants the smaller learning rate.

# %%
import matplotlib.pyplot as plt

from research.files import read_json

runs = [read_json(path) for path in sorted(workdir.glob("*/seed_*/result.json"))]
facts = pd.DataFrame(
    {
        "norm": run["config"]["model"]["norm"],
        "skip": run["config"]["model"]["skip"],
        "depth": run["config"]["model"]["depth"],
        "learning rate": run["config"]["optimizer"]["learning_rate"],
        "test accuracy": run["metrics"].get("test/accuracy", 0.1),  # diverged: chance
    }
    for run in runs
)
means = facts.pivot_table("test accuracy", "learning rate", ["norm", "skip", "depth"])
axes = means.plot(logx=True, marker="o", ylabel="mean test accuracy", ylim=(0, 1), figsize=(6, 3.5))
axes.legend(title="norm, skip, depth", loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# ## The full experiment
#
# From a clone of the repository:
#
# ```
# python launch.py --experiment=depth_lr_map
# ```
#
# Four depths, six learning rates, with and without each of norm and skip, five seeds and 100 steps.
# The measured results and the verdict are in `README.md` beside this notebook.
