import pytest

from research.commands.train import Datasets
from research.train.loop import train
from research.train.record import Run


@pytest.fixture(scope="session")
def finished(tmp_path_factory, tiny, digits, mesh):
    """Train a small model once per head; return its directory and its result."""
    done = {}

    def make(head="softmax"):
        if head not in done:
            directory = tmp_path_factory.mktemp(head) / "base" / "seed_0"
            changes = {"train.head": head, "train.steps": 60, "train.eval_every": 30}
            config = tiny(changes | {"optimizer.learning_rate": 0.03, "train.ema": 0.5})
            result = train(Run("tiny", "laptop", "base", 0, config, directory), digits, mesh)
            done[head] = directory, result
        return done[head]

    return make


@pytest.fixture(scope="session")
def quantized(finished, tmp_path_factory, tiny, digits, mesh):
    """Quantise that model to int8, by a run of its own; return its directory."""
    directory = tmp_path_factory.mktemp("int8") / "base" / "seed_0"
    changes = {"init_from": str(finished()[0]), "quantize.kind": "int8"}
    config = tiny(changes | {"train.probes": ("footprint",)})
    train(Run("tiny", "laptop", "base", 0, config, directory), digits, mesh)
    return directory


SEQUENCES = {
    "toy/text": {"data.length": 20, "data.batch_size": 8},
    "toy/strokes": {"data.train_size": 64, "data.length": 20},
    "toy/translation": {
        "model.name": "seq2seq",
        "model.embedding_size": 16,
        "data.train_size": 256,
        "train.probes": ("bleu",),
        "train.beams": 3,
        "train.alpha": 1.0,
    },
}


@pytest.fixture(scope="session")
def sequence_run(tmp_path_factory, tiny, mesh):
    """Train a small model of sequences once per set; return its directory, keep its metrics."""
    directories = {}

    def make(name):
        if name not in directories:
            directory = tmp_path_factory.mktemp(name.replace("/", "_")) / "base" / "seed_0"
            changes = {"model.name": "recurrent", "model.hidden": None, "model.hidden_size": 16}
            changes |= {"data.name": name, "train.steps": 30, "train.eval_every": 30}
            changes |= {"optimizer.name": "adam", "optimizer.learning_rate": 0.01}
            config = tiny(changes | SEQUENCES[name])
            dataset = Datasets(None).of(config)
            run = Run("tiny", "laptop", "base", 0, config, directory)
            make.results[name] = train(run, dataset, mesh)["metrics"]
            directories[name] = directory
        return directories[name]

    make.results = {}
    return make
