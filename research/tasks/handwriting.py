"""Handwriting: where the pen goes next, as a mixture of Gaussians."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from research.tasks.sequence import Batch, Score, SequenceTask, real_steps


class Mixture(NamedTuple):
    """M bivariate normal distributions of an offset, and the chance that the pen is lifted.

    Attributes:
        log_share: [..., M], of each component.
        mean: [..., M, 2].
        log_deviation: [..., M, 2].
        correlation: [..., M], in (−1, 1).
        lifted: [...], the logit.
    """

    log_share: jax.Array
    mean: jax.Array
    log_deviation: jax.Array
    correlation: jax.Array
    lifted: jax.Array


def mixture(outputs: jax.Array) -> Mixture:
    """Read outputs [..., 6·M + 1] as a mixture (Graves 2013, eqs. 18–22)."""
    parts = outputs[..., :-1].reshape(*outputs.shape[:-1], -1, 6)
    return Mixture(
        log_share=jax.nn.log_softmax(parts[..., 0]),
        mean=parts[..., 1:3],
        log_deviation=parts[..., 3:5],
        correlation=jnp.tanh(parts[..., 5]) * (1 - 1e-4),  # never a line
        lifted=outputs[..., -1],
    )


def log_density(found: Mixture, offset: jax.Array) -> jax.Array:
    """Return the log-density of offsets [..., 2] (Graves 2013, eqs. 23–25)."""
    z = (offset[..., None, :] - found.mean) * jnp.exp(-found.log_deviation)
    rho, rest = found.correlation, 1 - jnp.square(found.correlation)
    square = jnp.square(z).sum(-1) - 2 * rho * z.prod(-1)
    each = -square / (2 * rest) - found.log_deviation.sum(-1) - 0.5 * jnp.log(rest)
    return jax.nn.logsumexp(found.log_share + each, axis=-1) - jnp.log(2 * jnp.pi)


def draw(key: jax.Array, found: Mixture, temperature: float = 1.0) -> jax.Array:
    """Draw the next step of each, [..., 3]: an offset, and 1 where the pen is lifted.

    Args:
        key: of the draw.
        found: the mixture.
        temperature: below 1 the likelier is drawn, and closer to the means (Ha & Eck 2018, eq. 8).
    """
    which, normal, lift = jax.random.split(key, 3)
    component = jax.random.categorical(which, found.log_share / temperature)

    def of(values):
        return jnp.take_along_axis(
            values,
            component[(..., None) + (None,) * (values.ndim - component.ndim - 1)],
            axis=component.ndim,
        ).squeeze(component.ndim)

    rho = of(found.correlation)
    a, b = jnp.moveaxis(jax.random.normal(normal, (*component.shape, 2)), -1, 0)
    z = jnp.stack([a, rho * a + jnp.sqrt(1 - jnp.square(rho)) * b], axis=-1)
    offset = of(found.mean) + jnp.exp(of(found.log_deviation)) * z * jnp.sqrt(temperature)
    lifted = jax.random.bernoulli(lift, jax.nn.sigmoid(found.lifted / temperature))
    return jnp.concatenate([offset, lifted[..., None].astype(offset.dtype)], axis=-1)


@dataclasses.dataclass(frozen=True)
class Handwriting(SequenceTask):
    """The next offset of a pen, and whether it is lifted: `targets` float[B, T, 3].

    The loss is the negative log-likelihood of a step (Graves 2013, eq. 26), a density, so that it
    may be below 0.
    """

    def sample(
        self, variables: dict[str, Any], keys: jax.Array, length: int, temperature: float = 1.0
    ) -> jax.Array:
        """Draw `length` steps of new drawings, float[N, length, 3]; see `draw`.

        Args:
            variables: of the model.
            keys: N random keys; a drawing depends on its own alone.
            length: steps of each.
            temperature: as in `draw`.
        """

        def step(carry, t):
            state, last = carry
            outputs, state = self.step(variables, state, last)
            each = jax.vmap(lambda key, one: draw(jax.random.fold_in(key, t), one, temperature))
            drawn = each(keys, mixture(outputs)).astype(last.dtype)
            return (state, drawn), drawn

        none = jnp.zeros((len(keys), 3), jnp.float32)
        start = self.state_after(variables, none[:, None], jnp.zeros(len(keys), jnp.int32))
        _, drawn = jax.lax.scan(step, (start, none), jnp.arange(length))
        return jnp.swapaxes(drawn, 0, 1)

    def score(self, outputs: jax.Array, batch: Batch, *, train: bool) -> Score:
        """Score outputs [B, T, 6·M + 1]."""
        targets, found = batch["targets"], mixture(outputs)
        pen = optax.sigmoid_binary_cross_entropy(found.lifted, targets[..., 2])
        loss = pen - log_density(found, targets[..., :2])
        return Score.of(loss.ravel(), real_steps(batch).ravel())
