"""Translation: from the tokens of one sequence to those of another."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from research.data.text import BOS, EOS, PAD
from research.decoding import Decoded, beam_search
from research.losses import softmax_cross_entropy
from research.tasks.additions import SCHEDULE
from research.tasks.sequence import Batch, Score, SequenceTask, steps_before


@dataclasses.dataclass(frozen=True)
class Translation(SequenceTask):
    """The next token of `targets` int[B, U], given those before it and `inputs` int[B, T].

    `target_length` counts the closing `EOS`. The loss is a mean over tokens; `token_accuracy` is
    the share of them that are the most probable. Both are measured with the right tokens before.

    Attributes:
        label_smoothing: share of the target spread over the vocabulary, in training.
        sampling: scheduled sampling: the chance, at the end of training, that the decoder reads a
            token of its own in place of the right one; it grows linearly from 0 (Bengio et al.
            2015, §2.4).
        steps: of the run.
    """

    label_smoothing: float = 0.0
    sampling: float = 0.0
    steps: int = 1

    def init(self, key: jax.Array, batch: Batch) -> dict[str, Any]:
        """Return fresh variables: `params`, and for scheduled sampling the count of steps."""
        variables = self.model.init(key, batch["inputs"], batch["length"], **self.others(batch))
        counted = {SCHEDULE: {"step": jnp.zeros((), jnp.int32)}} if self.sampling else {}
        return variables | counted

    def translate(
        self, variables: dict[str, Any], batch: Batch, *, beams: int, alpha: float, length: int
    ) -> Decoded:
        """Return the best translations, of at most `length` tokens, that a beam search finds.

        Args:
            variables: of the model.
            batch: `inputs` and their `length`, of which 0 is read as 1.
            beams: of the search; 1 makes it greedy.
            alpha: the power of its length penalty.
            length: the most tokens, `EOS` among them.
        """
        own = {"params": variables["params"]}
        lengths = jnp.maximum(batch["length"], 1)
        state = self.model.apply(own, batch["inputs"], lengths, method="encode")

        def step(state, tokens):
            return self.model.apply(own, state, tokens, method="step")

        found = beam_search(
            step, state, beams=beams, length=length, bos=BOS, eos=EOS, pad=PAD, alpha=alpha
        )
        return jax.tree.map(lambda x: x[:, 0], found)

    def others(self, batch: Batch) -> dict[str, jax.Array]:
        """Return what the decoder reads, int[B, U]: `BOS`, then the targets but for the last."""
        before = batch["targets"][:, :-1]
        return {"target_in": jnp.pad(before, ((0, 0), (1, 0)), constant_values=BOS)}

    def _run(self, variables, batch, rngs=None):
        """As `SequenceTask._run`, with the chance of this step that the decoder reads its own."""
        own, chance, counted = {"params": variables["params"]}, 0.0, {}
        if rngs is None:
            return super()._run(own, batch)
        if self.sampling:
            step = variables[SCHEDULE]["step"]
            chance = self.sampling * jnp.minimum(step / self.steps, 1)
            counted = {SCHEDULE: {"step": step + 1}}
        dropout, sampling = jax.random.split(rngs["dropout"])
        rngs = {"dropout": dropout, "sampling": sampling}
        found, _ = super()._run(own, batch, rngs, sampling=chance)
        return found, counted

    def score(self, outputs: jax.Array, batch: Batch, *, train: bool) -> Score:
        """Score logits [B, U, V]."""
        targets = batch["targets"]
        mask = steps_before(batch["target_length"], targets.shape[1], batch["mask"])
        smoothing = self.label_smoothing if train else 0.0
        logits = outputs.reshape(-1, outputs.shape[-1])
        loss = softmax_cross_entropy(logits, targets.ravel(), smoothing=smoothing)
        right = (outputs.argmax(-1) == targets).ravel()
        return Score.of(loss, mask.ravel(), {"token_accuracy": right})
