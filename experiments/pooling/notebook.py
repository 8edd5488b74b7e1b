# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # What does a unit see: receptive fields, in theory and by gradient
#
# A unit of a convolutional network depends on a square of the image, its receptive field, and what
# makes the square grow is convolution and subsampling. How much it depends on each pixel of the
# square, the gradient tells: mostly on those in the middle ([Luo et al.
# 2016](https://arxiv.org/abs/1701.04128)). And a unit that sees every second place only may change
# its mind when the image moves by one pixel.

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
# A LeNet that takes the maximum of 2×2 places, and one whose convolutions stride instead: two
# seeds, 100 steps, in about a minute.

# %%
import os
from pathlib import Path

os.environ["TTY_COMPATIBLE"] = "0"  # progress as lines: a notebook cannot redraw bars
workdir = Path("runs/pooling-notebook")
# !{sys.executable} -m launch --experiment=pooling --workdir={workdir} --seeds=2 \
#     --arms=max,stride --config.optimizer.learning_rate=0.03 \
#     --config.train.steps=100 --config.train.eval_every=50
assert _exit_code == 0, "the launch failed: its message is above"

# %%
import pandas as pd

from research.report import table

pd.DataFrame(table(workdir))

# %% [markdown]
# ## What their units see
#
# `--mode=inspect` looks into a trained model; here the same from Python. The frame is the field in
# theory; a pooling adds a pixel or two to it, which a stride does not.

# %%
from IPython.display import Image, display

from research.commands.inspect import inspect

for arm in ("max", "stride"):
    run = str(workdir / arm / "seed_0")
    for picture in inspect(run, None, {}, what="receptive_field,invariance"):
        display(Image(picture))

# %% [markdown]
# ## Theory grows faster than the gradient
#
# The theoretical field of a stack of 3×3 convolutions grows by two pixels with each; the effective
# one about by the square root of their number, for its gradient is the sum over paths, which mostly
# end near the middle. Here are residual networks before any training, at the end of their first
# stage, where nothing has been subsampled yet.

# %%
import jax

from research.inspection.receptive_field import effective_receptive_field, effective_size
from research.inspection.structure import structure
from research.models import create_model

images = jax.random.normal(jax.random.key(1), (8, 48, 48, 1))
for depth in (8, 14, 20, 32):
    model = create_model("resnet", depth=depth, width=4, skip="none", num_classes=10)
    endpoint = f"stage1/block{(depth - 2) // 6}/act2"
    variables = jax.jit(model.init)(jax.random.key(0), images)
    rows, columns = structure(model, images.shape[1:]).endpoints[endpoint]
    seen = effective_size(effective_receptive_field(model, variables, images, endpoint))
    layers = (depth - 2) // 3 + 1
    print(f"{layers:2} convolutions: theory {rows.size:2} pixels, effective {seen:4.1f}")

# %% [markdown]
# ## The full experiment
#
# From a clone of the repository:
#
# ```
# python launch.py --experiment=pooling
# python launch.py --mode=inspect --checkpoint=runs/pooling-laptop/max/seed_0 --what=all
# ```
#
# Four ways to subsample, ten seeds, each arm at its own best learning rate. The measured results
# and the verdict are in `README.md` beside this notebook.
