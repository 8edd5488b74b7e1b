"""How well does a GRU with attention translate German captions into English?

    python launch.py --experiment=translation
    python launch.py --experiment=translation --scale=gpu --data_dir=$TFDS_DATA_DIR

Cost: laptop 5 runs in 43 s on one core; gpu 1 run in 1 h 20 min on one
core of 2.
Expected: laptop (a thousand pairs of sentences of a grammar) nearly all sentences right; gpu
(29,000 pairs of Multi30k, ten epochs) 28 BLEU or more, as a published network of this kind has.

On request, by `--arms=none`: the same without attention.
"""

from research.config import get_config as defaults


def get_config(scale):
    config = defaults()
    config.experiment.arms = ("attention",)
    config.experiment.baseline = "attention"
    config.experiment.panels = ("test/bleu", "test/loss", "test/token_accuracy", "train/loss")
    config.model.name = "seq2seq"
    config.model.cell = "gru"
    config.optimizer.name = "adam"
    config.optimizer.schedule.name = "cosine"
    config.optimizer.clip.kind = "global_norm"
    config.optimizer.clip.threshold = 1.0
    config.train.probes = ("bleu",)
    config.train.tensorboard = False
    if scale == "laptop":
        config.data.name = "toy/translation"
        config.data.batch_size = 32
        config.model.hidden_size = 32
        config.model.embedding_size = 32
        config.optimizer.learning_rate = 0.01
        config.train.steps = 300
        config.train.eval_every = 50
    else:
        config.experiment.seeds = 1
        config.data.name = "multi30k/de-en"
        config.data.length = 36  # tokens: the longest sentence of the test
        config.data.vocabulary_size = 6000  # words of either language
        config.data.batch_size = 64
        config.data.buckets = 6
        config.model.hidden_size = 256
        config.model.embedding_size = 256
        config.model.dropout = 0.3
        config.optimizer.learning_rate = 0.001
        config.train.label_smoothing = 0.1
        config.train.epochs = 10.0
        config.train.eval_every = 453  # steps: an epoch
        config.train.log_every = 151
    return config


def arms(scale):
    """Return what each arm changes."""
    return {"attention": {"model.attention": "bahdanau"}, "none": {"model.attention": "none"}}


scales = ("laptop", "gpu")
