"""One training step against torch: loss, gradients, and the momentum of batch norm's averages."""

import jax
import numpy as np
import optax
import pytest
from torch_training import FILE, LABELS, MODELS, images, numbers, refill

from research.models import create_model
from research.transfer import from_torch, to_torch


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("name", MODELS)
def test_loss_gradients_and_running_means_are_torchs(name):
    """Of the loss of all heads, auxiliary ones too."""
    *draw, switches = MODELS[name]
    model, x = create_model(name, **switches), images(*draw).transpose(0, 2, 3, 1)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    layout = to_torch(name, jax.tree.map(lambda leaf: np.zeros(leaf.shape), shapes), **switches)
    state = {key: refill(key, a.shape) for key, a in layout.items() if "num_batches" not in key}
    variables = from_torch(name, state, **switches)

    @jax.jit
    def step(params):
        def loss(params):
            (logits, endpoints), updates = model.apply(
                variables | {"params": params}, x, train=True, mutable=["batch_stats"]
            )
            heads = [(1.0, logits)] + [(w, endpoints[k]) for k, w in model.aux_weights.items()]
            cross_entropy = optax.softmax_cross_entropy_with_integer_labels
            losses = [w * cross_entropy(head, LABELS[: len(x)]).mean() for w, head in heads]
            return sum(losses), updates

        return jax.value_and_grad(loss, has_aux=True)(params)

    (loss, updates), gradient = step(variables["params"])
    found = to_torch(name, {"params": gradient} | updates, **switches)
    with np.load(FILE) as record:
        np.testing.assert_allclose(loss, record[f"{name}/loss"], rtol=1e-4)
        names = record[f"{name}/names"].astype(str)
        expected = dict(zip(names, record[f"{name}/numbers"], strict=True))
    assert expected.keys() == {n for n in state if not n.endswith("running_var")}
    for key, (norm, product) in expected.items():
        # A bias before batch norm has no gradient, but for rounding.
        tolerance = 1e-3 * norm + 1e-5
        found_norm, found_product = numbers(key, found[key])
        assert abs(found_norm - norm) < tolerance, key
        assert abs(found_product - product) < tolerance * np.sqrt(found[key].size), key
