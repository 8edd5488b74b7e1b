# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # How few bits do weights need?
#
# Trained weights are numbers of 32 bits, of which most say little. Here a small convolutional
# network that reads handwritten digits is rounded to eight bits, to four and to a sign alone, and
# then trained a little more *through* the rounding: forward with what is rounded, backward as if
# nothing had been ([Bengio et al. 2013](https://arxiv.org/abs/1308.3432)).

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
# One network, five of the experiment's ways to quantise it, two seeds, in about a minute.

# %%
import os
from pathlib import Path

os.environ["TTY_COMPATIBLE"] = "0"  # progress as lines: a notebook cannot redraw bars
workdir = Path("runs/quantization-notebook")
# !{sys.executable} -m launch --experiment=quantization --workdir={workdir} --seeds=2 \
#     --arms=cnn-float32,cnn-int8,cnn-int4,cnn-xnor,cnn-xnor-trained \
#     --config.train.steps=200 --config.train.eval_every=50 --config.train.log_every=50
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
# ## Which layer loses most
#
# The signal-to-noise ratio of each kernel, in decibels: six are about one bit. Eight bits leave
# more than 40, four about 20, and signs with a scale for each output channel hardly 5, so that the
# noise is a half of the signal: without training, too much.

# %%
from research.files import read_json

noise = {
    arm: {
        name.removeprefix("snr_db/"): value
        for name, value in read_json(workdir / arm / "seed_0" / "result.json")["metrics"].items()
        if name.startswith("snr_db/")
    }
    for arm in ("cnn-int8", "cnn-int4", "cnn-xnor")
}
print(pd.DataFrame(noise).round(1).to_string())

# %% [markdown]
# ## What is on disk
#
# Each run leaves `network.safetensors`, in as many bits as it has. Loaded, it is evaluated without
# the checkpoint, to the same numbers.

# %%
from research.compression.artefact import load

for arm in ("cnn-float32", "cnn-int8", "cnn-int4", "cnn-xnor"):
    path = workdir / arm / "seed_0" / "network.safetensors"
    kind, variables = load(path)
    print(f"{arm:12} {path.stat().st_size / 1e3:6.1f} kB  {kind}")

# %% [markdown]
# ## The full experiment
#
# From a clone of the repository:
#
# ```
# python launch.py --experiment=quantization
# ```
#
# A GRU beside the convolutional network, three ways to calibrate activations, and more seeds. The
# measured results and the verdict are in `README.md` beside this notebook.
