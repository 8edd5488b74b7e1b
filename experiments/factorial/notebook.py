# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # How do normalisation, skip connections and gradient clipping interact?
#
# Changing one thing at a time cannot tell whether two remedies add up or do the same work. A
# factorial design runs every combination, and the difference of differences answers. Batch norm
# makes deep residual networks trainable by shrinking each residual branch beside its skip ([De and
# Smith 2020](https://arxiv.org/abs/2002.10444)); clipping bounds the update instead. Does a network
# need both?

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
# Norm × clipping on a residual network of 20 layers, two seeds, 60 steps and one large learning
# rate, in about a minute. The full experiment also crosses the skip, and gives each arm its own
# best rate.

# %%
import os
from pathlib import Path

os.environ["TTY_COMPATIBLE"] = "0"  # progress as lines: a notebook cannot redraw bars
workdir = Path("runs/factorial-notebook")
# !{sys.executable} -m launch --experiment=factorial --workdir={workdir} --seeds=2 \
#     --arms='none-identity-[ng]*,batch-identity-[ng]*' \
#     --config.experiment.baseline=none-identity-none \
#     --config.model.depth=20 --config.optimizer.learning_rate=0.1 \
#     --config.train.steps=60 --config.train.eval_every=20 --config.train.checkpoint_every=0 \
#     --config.train.diagnostics_every=0
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
# ## The interaction by hand
#
# What clipping adds beside batch norm, less what it adds without a norm. Were the two remedies
# independent, this difference of differences would be 0. Here either alone does nearly all the
# work, so that it is negative and almost as large as what one of them adds. The report's plot of
# effects shows the same number with its interval over seeds.

# %%
from research.files import read_json


def accuracy(arm):
    """Return the mean test accuracy over seeds; a run that diverged counts at chance."""
    results = [read_json(path) for path in sorted((workdir / arm).glob("seed_*/result.json"))]
    return sum(result["metrics"].get("test/accuracy", 0.1) for result in results) / len(results)


without = accuracy("none-identity-global_norm") - accuracy("none-identity-none")
beside = accuracy("batch-identity-global_norm") - accuracy("batch-identity-none")
print(f"clipping adds {100 * without:+.1f} percentage points without a norm")
print(f"clipping adds {100 * beside:+.1f} percentage points beside batch norm")
print(f"interaction   {100 * (beside - without):+.1f} percentage points")

# %% [markdown]
# ## The full experiment
#
# From a clone of the repository:
#
# ```
# python launch.py --experiment=factorial
# ```
#
# Three norms, two skips, two clippings, eight seeds and 32 layers, each arm at its own best
# learning rate. The measured results and the verdict are in `README.md` beside this notebook.
