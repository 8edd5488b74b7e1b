"""Variables drawn by NumPy, and the loss that they have."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np


@cache
def normal(name, shape):
    return np.random.default_rng(list(name.encode())).normal(size=shape)


def fixed_variables(model, images, scalar=0.0, vector=1.0):
    """Variables that are the same wherever path and shape are: kernels as He's, gains `vector`, but
    SkipInit's `scalar`, and biases small. To compile every `init` would take minutes.
    """

    def draw(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name.endswith("kernel"):
            value = normal(name, leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1]))
        elif name.endswith(("scale", "var")):
            value = np.full(leaf.shape, vector if leaf.shape else scalar)
        elif name.endswith("bias"):
            value = 0.1 * normal(name, leaf.shape)
        else:
            value = np.zeros(leaf.shape)
        return jnp.asarray(value, leaf.dtype)

    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    return jax.tree_util.tree_map_with_path(draw, shapes)


def training_loss(model, variables, images, labels):
    """The mean cross-entropy as a function of the parameters, and the logits."""

    def cross_entropy(logits):
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=-1)
        return -chosen.mean()

    def loss(params):
        (logits, endpoints), _ = model.apply(
            variables | {"params": params}, images, train=True, mutable=["batch_stats"]
        )
        heads = {k: w for k, w in model.aux_weights.items() if k in endpoints}
        auxiliary = [w * cross_entropy(endpoints[k]) for k, w in heads.items()]
        return sum(auxiliary, cross_entropy(logits)), logits

    return loss
