"""Translation: from the tokens of one sequence to those of another."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from research.data.text import BOS, EOS, PAD
from research.decoding import Decoded, beam_search
from research.losses import softmax_cross_entropy
from research.tasks.sequence import Batch, Score, SequenceTask, masked_loss, steps_before

SCHEDULE = "schedule"  # a collection: the steps taken


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

    def loss(self, variables: dict[str, Any], batch: Batch, key: jax.Array):
        """Return `(mean loss, (new collections, metric sums, endpoints))` of a training batch."""
        chance, counted = 0.0, {}
        if self.sampling:
            step = variables[SCHEDULE]["step"]
            chance = self.sampling * jnp.minimum(step / self.steps, 1)
            counted = {SCHEDULE: {"step": step + 1}}
        dropout, sampling = jax.random.split(key)
        logits, endpoints = self.model.apply(
            {"params": variables["params"]},
            batch["inputs"],
            batch["length"],
            **self.others(batch),
            train=True,
            sampling=chance,
            rngs={"dropout": dropout, "sampling": sampling},
        )
        score = self.score(logits, batch, train=True)
        return masked_loss(score), (counted, score.sums, endpoints)

    def evaluate(self, variables: dict[str, Any], batch: Batch):
        """Return `(metric sums, examples)` of an evaluation batch; there are no examples."""
        logits, _ = self.model.apply(
            {"params": variables["params"]},
            batch["inputs"],
            batch["length"],
            **self.others(batch),
        )
        return self.score(logits, batch, train=False).sums, {}

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

    def score(self, outputs: jax.Array, batch: Batch, *, train: bool) -> Score:
        """Score logits [B, U, V]."""
        targets = batch["targets"]
        mask = steps_before(batch["target_length"], targets.shape[1], batch["mask"])
        smoothing = self.label_smoothing if train else 0.0
        logits = outputs.reshape(-1, outputs.shape[-1])
        loss = softmax_cross_entropy(logits, targets.ravel(), smoothing=smoothing)
        right = (outputs.argmax(-1) == targets).ravel()
        return Score.of(loss, mask.ravel(), {"token_accuracy": right})
