"""Language modelling: the next token of a text, with the state carried from chunk to chunk."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.tasks.additions import CARRY
from research.tasks.evaluation import Evaluation
from research.tasks.sequence import Batch, Score, SequenceTask, real_steps


@dataclasses.dataclass(frozen=True)
class LanguageModel(SequenceTask):
    """The next token at each step of a stream: truncated backpropagation through time.

    A batch is a chunk of each of B streams (see `research.data.stream.Stream`). A row begins where
    its last one ended, in the state it left, through which no gradient flows; where `start` says
    so, it begins anew. That state is among the variables, so that a checkpoint holds it.

    `loss` is in nats a token; `perplexity` and `bits` (a token) follow from it.

    Attributes:
        carried: whether the state is carried; else each chunk begins anew.

    References:
        R. J. Williams, J. Peng, An efficient gradient-based algorithm for on-line training of
        recurrent network trajectories, Neural Computation 2, 1990.
    """

    carried: bool = True

    def init(self, key: jax.Array, batch: Batch) -> dict[str, Any]:
        """Return fresh variables, the carried state of so many rows as `batch` has among them."""
        variables = super().init(key, batch)
        _, endpoints = jax.eval_shape(self.model.apply, variables, batch["inputs"], batch["length"])
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), endpoints["final_state"])
        return variables | {CARRY: {"state": zeros}}

    def score(self, outputs: jax.Array, batch: Batch, *, train: bool) -> Score:
        """Score logits [B, T, V]."""
        loss = optax.softmax_cross_entropy_with_integer_labels(outputs, batch["targets"])
        return Score.of(loss.ravel(), real_steps(batch).ravel())

    def summarize(self, means: dict[str, float], examples: dict[str, np.ndarray]) -> Evaluation:
        """Return the means, with perplexity and bits."""
        # Beyond e^50 it says nothing, and would overflow soon.
        perplexity = math.exp(min(means["loss"], 50.0))
        return Evaluation(means | {"perplexity": perplexity, "bits": means["loss"] / math.log(2)})

    def _run(self, variables, batch, rngs=None):
        """As `SequenceTask._run`, from the state that was carried; the new one is a collection."""
        own = {k: v for k, v in variables.items() if k != CARRY}
        state = self._begin(variables, batch)
        (outputs, endpoints), collections = super()._run(own, batch, rngs, initial_state=state)
        carried = {CARRY: {"state": endpoints["final_state"]}}
        return (outputs, endpoints), {**collections, **carried}

    def _begin(self, variables: dict[str, Any], batch: Batch) -> Any:
        """The state in which each row begins; None, which is zeros, where none was carried."""
        if not self.carried or CARRY not in variables:
            return None
        goes_on = ~batch["start"][:, None]
        state = jax.tree.map(lambda s: jnp.where(goes_on, s, 0), variables[CARRY]["state"])
        return jax.lax.stop_gradient(state)
