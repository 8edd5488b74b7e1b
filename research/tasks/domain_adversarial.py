"""Classification that learns features in which two domains cannot be told apart (DANN)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from research.tasks.additions import DISCRIMINATOR, SCHEDULE, of_model
from research.tasks.classification import Batch, Classification


@jax.custom_vjp
def reverse_gradient(x: jax.Array, scale: jax.Array) -> jax.Array:
    """Return `x`; its gradient is multiplied by −`scale` on the way back (Ganin 2016, eq. 17)."""
    return x


reverse_gradient.defvjp(
    lambda x, scale: (x, scale),
    lambda scale, g: ((-scale * g).astype(g.dtype), jnp.zeros_like(scale)),
)


class Discriminator(nn.Module):
    """Two layers that name the domain of features: [N, …] → logits [N], above 0 for the target."""

    hidden: int = 100
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(len(x), -1).astype(self.dtype)
        x = nn.relu(nn.Dense(self.hidden, param_dtype=self.dtype, name="dense1")(x))
        return nn.Dense(1, param_dtype=self.dtype, name="dense2")(x)[:, 0]


@dataclasses.dataclass(frozen=True)
class DomainAdversarial(Classification):
    """Classification of one domain, with unlabelled images of another beside it.

    A training batch holds those as `target`, uint8[N, H, W, C]. Both halves go through the model
    together, so that batch norm sees the mixture, and their features (what enters the last layer)
    through a reversed gradient into a discriminator. The reversed gradient has the weight
    λ·(2 / (1 + e^(−10 p)) − 1), where p is the share of the steps that are done.

    Attributes:
        steps: of the run, micro-batches counted one by one.
        adversary: λ.

    References:
        Y. Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 2016: eq. 13, and
        §5.2.2 for the schedule.
    """

    steps: int = 1
    adversary: float = 1.0

    def init(self, key: jax.Array, batch: Batch) -> dict[str, Any]:
        """Return fresh variables: the model's, the discriminator's and the count of steps."""
        variables = super().init(key, batch)
        _, endpoints = self.model.apply(variables, self._images(batch), train=False)
        fresh = self._discriminator().init(jax.random.fold_in(key, 1), _features(endpoints))
        params = variables["params"] | {DISCRIMINATOR: fresh["params"]}
        return variables | {"params": params, SCHEDULE: {"step": jnp.zeros((), jnp.int32)}}

    def loss(self, variables: dict[str, Any], batch: Batch, key: jax.Array):
        """Return `(mean loss, (new collections, metric sums, endpoints))` of a training batch."""
        step = variables[SCHEDULE]["step"]
        size = len(batch["target"])
        both = {
            "image": jnp.concatenate([batch["image"], batch["target"]]),
            "label": jnp.concatenate([batch["label"], jnp.zeros(size, batch["label"].dtype)]),
            "mask": jnp.concatenate([batch["mask"], jnp.zeros(size, batch["mask"].dtype)]),
        }
        loss, (collections, sums, endpoints) = super().loss(of_model(variables), both, key)
        weight = self.adversary * (2 / (1 + jnp.exp(-10 * step / self.steps)) - 1)
        features = reverse_gradient(_features(endpoints), weight)
        logits = self._discriminator().apply(
            {"params": variables["params"][DISCRIMINATOR]}, features
        )
        domain = jnp.concatenate([jnp.zeros(len(logits) - size), jnp.ones(size)])
        domain_loss = optax.sigmoid_binary_cross_entropy(logits, domain).mean()
        sums = sums | {
            "domain_loss": domain_loss * sums["count"],
            "domain_accuracy": jnp.mean((logits > 0) == (domain > 0)) * sums["count"],
        }
        collections = {**collections, SCHEDULE: {"step": step + 1}}
        return loss + domain_loss, (collections, sums, endpoints)

    def _discriminator(self) -> Discriminator:
        return Discriminator(dtype=self.model.param_dtype)


def _features(endpoints: dict[str, jax.Array]) -> jax.Array:
    """Return what enters the last layer: the endpoint before the logits."""
    *_, features, _ = endpoints.values()
    return features
