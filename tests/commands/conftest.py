import pytest

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
