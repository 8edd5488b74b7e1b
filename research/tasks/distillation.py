"""Knowledge distillation: a classification whose model also learns what a teacher says."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.losses import distillation_divergence, masked_mean
from research.tasks.additions import REGRESSOR, of_model
from research.tasks.classification import Batch, Classification

# What a training batch holds of the teacher.
LOGITS = "teacher_logits"  # float[N, K]
HINT = "teacher_hint"  # float[N, …, C], an endpoint of its


@dataclasses.dataclass(frozen=True)
class Distillation:
    """The training of a student: a task around the task by which it is judged.

    The loss is (1 − w)·task + w·T²·KL(teacher ‖ student), both softened by T, and, with a hint,
    + β·mean((r(student's endpoint) − teacher's endpoint)²) with a linear layer r over the channels,
    a 1×1 convolution where they are maps. What the teacher says comes with the batch, as numbers
    like any other: no gradient can reach it, and no state holds it.

    Attributes:
        task: whose model is the student.
        temperature: T.
        weight: w.
        hint: the student's endpoint; "" for none.
        hint_weight: β.
        hint_channels: C of the teacher's endpoint.

    References:
        G. Hinton, O. Vinyals, J. Dean, Distilling the Knowledge in a Neural Network, 2015, §2.
        A. Romero et al., FitNets: Hints for Thin Deep Nets, ICLR 2015, eq. 3; theirs is a stage of
        its own, before the soft targets, here both are learnt at once.
    """

    task: Classification
    temperature: float
    weight: float
    hint: str = ""
    hint_weight: float = 1.0
    hint_channels: int = 0

    def init(self, key: jax.Array, batch: Batch) -> dict[str, Any]:
        """Return fresh variables: those that the task would draw, and r's."""
        variables = self.task.init(key, batch)
        if not self.hint:
            return variables
        endpoints = jax.eval_shape(self._endpoints, variables, batch)
        zeros = jnp.zeros(endpoints[self.hint].shape, self.task.model.param_dtype)
        fresh = self._regressor().init(jax.random.fold_in(key, 1), zeros)
        return variables | {"params": variables["params"] | {REGRESSOR: fresh["params"]}}

    def loss(self, variables: dict[str, Any], batch: Batch, key: jax.Array):
        """Return `(mean loss, (new collections, metric sums, endpoints))` of a training batch.

        The sums are the task's, its own loss among them, with `soft_loss` and `hint_loss`.
        """
        hard, (collections, sums, endpoints) = self.task.loss(of_model(variables), batch, key)
        mask, count = batch["mask"], sums["count"]
        soft = masked_mean(
            distillation_divergence(endpoints["logits"], batch[LOGITS], self.temperature), mask
        )
        loss = (1 - self.weight) * hard + self.weight * soft
        sums = sums | {"soft_loss": soft * count}
        if self.hint:
            regressed = self._regressor().apply(
                {"params": variables["params"][REGRESSOR]}, endpoints[self.hint]
            )
            errors = jnp.square(regressed - batch[HINT])
            apart = masked_mean(errors.mean(range(1, errors.ndim)), mask)
            loss += self.hint_weight * apart
            sums |= {"hint_loss": apart * count}
        return loss, (collections, sums, endpoints)

    def _regressor(self) -> nn.Module:
        dtype = self.task.model.param_dtype  # in full precision, where the model computes in half
        return nn.Dense(self.hint_channels, dtype=dtype, param_dtype=dtype)

    def _endpoints(self, variables: dict[str, Any], batch: Batch) -> dict[str, jax.Array]:
        images = self.task.normalize(batch["image"].astype(jnp.float32))
        return self.task.model.apply(variables, images, train=False)[1]
