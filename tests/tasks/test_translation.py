import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from research.data.text import BOS
from research.models.rnn.seq2seq import Seq2Seq
from research.tasks.translation import Translation

RNG = np.random.default_rng(0)
BATCH = {
    "inputs": RNG.integers(4, 9, (3, 5)).astype(np.int32),
    "length": np.array([5, 2, 3], np.int32),
    "targets": RNG.integers(4, 9, (3, 4)).astype(np.int32),
    "target_length": np.array([4, 1, 2], np.int32),
    "mask": np.array([1, 1, 0], np.float32),
}
REAL = (np.arange(4) < BATCH["target_length"][:, None]) & (BATCH["mask"][:, None] > 0)


def task_of(**fields):
    model = Seq2Seq(9, 9, embedding_size=4, hidden_size=6, attention="luong_general")
    return Translation(model, **fields)


def test_the_loss_is_of_each_next_token_given_the_right_ones():
    task = task_of(label_smoothing=0.2)
    variables = task.init(jax.random.key(0), BATCH)
    before = np.concatenate([np.full((3, 1), BOS), BATCH["targets"][:, :-1]], axis=1)
    logits, _ = task.model.apply(variables, BATCH["inputs"], BATCH["length"], target_in=before)
    log_p = log_softmax(np.asarray(logits, np.float64), axis=-1)
    own = np.eye(9)[BATCH["targets"]]
    loss, (collections, _, _) = task.loss(variables, BATCH, jax.random.key(1))
    smoothed = -((0.8 * own + 0.2 / 9) * log_p).sum(-1)
    np.testing.assert_allclose(loss, smoothed[REAL].mean(), rtol=1e-5)
    sums, _ = task.evaluate(variables, BATCH)
    np.testing.assert_allclose(sums["loss"], -(own * log_p).sum(-1)[REAL].sum(), rtol=1e-5)
    assert sums["token_accuracy"] == (log_p.argmax(-1) == BATCH["targets"])[REAL].sum()
    assert sums["count"] == REAL.sum() and collections == {}


@pytest.mark.parametrize("step", [0, 5, 20])
def test_the_chance_to_read_its_own_tokens_grows_over_the_run(step):
    task = task_of(sampling=0.8, steps=10)
    variables = task.init(jax.random.key(0), BATCH)
    assert variables["schedule"]["step"] == 0
    many = {k: np.repeat(v, 200, axis=0) for k, v in BATCH.items()}
    variables["schedule"]["step"] = jnp.int32(step)
    # Its own tokens are told from the right ones by a vocabulary that these do not use.
    params = variables["params"]
    params["head"]["bias"] = params["head"]["bias"].at[3].set(100.0)
    _, (collections, _, endpoints) = task.loss(variables, many, jax.random.key(0))
    replaced = (np.asarray(endpoints["inputs"])[:, 1:] == 3).mean()
    assert abs(replaced - 0.8 * min(step / 10, 1)) < 0.05
    assert collections["schedule"]["step"] == step + 1
