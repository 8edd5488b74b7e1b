"""Sequences of many lengths on several devices: how much of their work is padding?

    python launch.py --experiment=load_balance

Cost: laptop (four thousand embedded pairs of German and English texts made from a grammar, a GRU
with attention on four host devices, 1 to 8 buckets × 5 seeds) 20 runs in 8 min 28 s on 2 cores.
Expected: all devices take as many steps as the longest text of the batch, so that with one bucket
half of the work is padding; like with like, a sixth; the loss stays.
"""

from research.config import get_config as defaults
from research.experiment import levels


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "buckets1"
    config.experiment.panels = (
        *("utilization/padding", "utilization/step_ms", "test/loss", "utilization/input_wait"),
        "utilization/communication",
    )
    config.experiment.tune.grid = ()
    config.data.name = "toy/clauses"
    config.data.batch_size = 32
    config.model.name = "seq2seq"
    config.model.cell = "gru"
    config.model.hidden_size = 32
    config.model.embedding_size = 32
    config.model.attention = "bahdanau"
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 0.01
    config.optimizer.clip.kind = "global_norm"
    config.train.steps = 300
    config.train.eval_every = 100
    config.train.tensorboard = False
    config.train.mesh = "seed:1,data:4"
    return config


def arms(scale):
    """Return what each arm changes."""
    return levels("data.buckets", 1, 2, 4, 8, prefix="buckets")


scales = ("laptop",)
