"""Does a wider beam translate better, and where does it stop to?

    python launch.py --experiment=beam_width
    python launch.py --experiment=beam_width --scale=gpu --data_dir=$TFDS_DATA_DIR

Cost: laptop (a GRU of 32 units without attention on 200 pairs of sentences of a grammar, five
widths × 5 seeds) 25 runs in 56 s on one core of 2; gpu (Multi30k) not measured yet.
Expected: on the grammar no difference that five seeds show (in a trial with two, a point less than
greedy decoding), on Multi30k a beam of 4 about a point more and a wider one no better; loss and
token accuracy, which are measured with the right tokens before, do not depend on it at all.
"""

from research.config import get_config as defaults
from research.experiment import levels

BEAMS = (1, 2, 4, 8, 16)


def get_config(scale):
    config = defaults()
    config.experiment.baseline = "beams1"
    config.experiment.panels = ("test/bleu", "test/token_accuracy", "test/loss")
    config.model.name = "seq2seq"
    config.model.cell = "gru"
    config.optimizer.name = "adam"
    config.optimizer.clip.kind = "global_norm"
    config.optimizer.clip.threshold = 1.0
    config.train.probes = ("bleu",)
    config.train.tensorboard = False
    if scale == "laptop":
        config.data.name = "toy/translation"
        config.data.train_size = 200  # few enough that translations are often wrong
        config.data.batch_size = 32
        config.model.attention = "none"
        config.model.hidden_size = 32
        config.model.embedding_size = 32
        config.optimizer.learning_rate = 0.003
        config.train.steps = 200
        config.train.eval_every = 50
        config.train.log_every = 50
    else:
        config.data.name = "multi30k/de-en"
        config.data.length = 36  # tokens: the longest sentence of the test
        config.data.vocabulary_size = 6000  # words of either language
        config.data.batch_size = 64
        config.data.buckets = 6
        config.model.hidden_size = 256
        config.model.embedding_size = 256
        config.model.dropout = 0.3
        config.optimizer.learning_rate = 0.001
        config.optimizer.schedule.name = "cosine"
        config.train.label_smoothing = 0.1
        config.train.epochs = 10.0
        config.train.eval_every = 453  # steps: an epoch
        config.train.log_every = 151
    return config


def arms(scale):
    """Return what each arm changes: nothing in training, so that one seed's network is the same."""
    return levels("train.beams", *BEAMS, prefix="beams")


scales = ("laptop", "gpu")
