"""What does attention buy a translator, and does its form matter?

    python launch.py --experiment=attention

Cost: laptop (four thousand embedded pairs of German and English texts made from a grammar, GRUs of
32 units, three kinds of attention or none × 5 seeds, each arm at its best of three learning rates)
32 runs in 7 min 8 s on one core of 2.
Expected: without attention the last state has to hold the text, and translations are the worse the
longer it is; the scores of Bahdanau and of Luong are close.
"""

from research.config import get_config as defaults
from research.experiment import levels

KINDS = ("none", "bahdanau", "luong_dot", "luong_general")


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "none"
    config.experiment.panels = (
        *("test/loss", "test/bleu", "test/bleu_short", "test/bleu_middle", "test/bleu_long"),
        *("steps_to_loss", "train/loss"),
    )
    config.experiment.target_loss = 0.1
    config.experiment.tune.grid = (0.001, 0.003, 0.01)
    config.data.name = "toy/clauses"
    config.data.batch_size = 32
    config.data.buckets = 4
    config.model.name = "seq2seq"
    config.model.cell = "gru"
    config.model.hidden_size = 32
    config.model.embedding_size = 32
    config.model.bidirectional = False  # for luong_dot: states of both sides must be as wide
    config.optimizer.name = "adam"
    config.optimizer.clip.kind = "global_norm"
    config.optimizer.clip.threshold = 1.0
    config.train.probes = ("bleu",)
    config.train.steps = 500
    config.train.eval_every = 25
    config.train.checkpoint_every = 25
    config.train.log_every = 25
    config.train.tensorboard = False
    return config


def arms(scale):
    """Return what each arm changes."""
    return levels("model.attention", *KINDS)


scales = ("laptop",)
