"""What recurrent networks are trained for: sequences → loss and metric sums.

A batch holds `inputs`, int[B, T] or float[B, T, D], `length` int[B], `mask` float[B] (0: padding),
what is to be told of the sequences, and perhaps `side`, float[B, M]. A task is a way to score a
model's outputs against that; steps beyond a sequence's length count nowhere.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from research.losses import example_weights, masked_mean
from research.metrics import classification_sums, edit_distance
from research.tasks.evaluation import Evaluation, summarize
from research.tasks.heads import HEADS, Head

Batch = dict[str, jax.Array]


class Score(NamedTuple):
    """How a model did on a batch.

    Attributes:
        loss: float[N], of each sequence, or of each step of all.
        mask: float[N], 0 for those that do not count.
        sums: of metrics, with their `count`.
        examples: what the evaluation keeps of each sequence, by name, arrays [B, …].
    """

    loss: jax.Array
    mask: jax.Array
    sums: dict[str, jax.Array]
    examples: dict[str, jax.Array]

    @staticmethod
    def of(
        loss: jax.Array, mask: jax.Array, metrics: dict[str, jax.Array] | None = None
    ) -> "Score":
        """The score whose sums are those of the loss and of `metrics`, [N] each."""
        values = {"loss": loss} | (metrics or {})
        sums = {name: jnp.sum(jnp.where(mask > 0, value, 0)) for name, value in values.items()}
        return Score(loss, mask, sums | {"count": jnp.sum(mask)}, {})


@dataclasses.dataclass(frozen=True)
class SequenceTask:
    """What the tasks here share.

    Attributes:
        model: called with inputs and lengths, it returns `(outputs, endpoints)`.
    """

    model: nn.Module

    def init(self, key: jax.Array, batch: Batch) -> dict[str, Any]:
        """Return fresh variables: `params` and the model's collections."""
        return self.model.init(key, batch["inputs"], batch["length"], **self.others(batch))

    def loss(self, variables: dict[str, Any], batch: Batch, key: jax.Array):
        """Return `(mean loss, (new collections, metric sums, endpoints))` of a training batch."""
        (outputs, endpoints), collections = self._run(variables, batch, {"dropout": key})
        score = self.score(outputs, batch, train=True)
        return masked_mean(score.loss, score.mask), (collections, score.sums, endpoints)

    def evaluate(self, variables: dict[str, Any], batch: Batch):
        """Return `(metric sums, examples)` of an evaluation batch.

        Beside the examples stand the collections with that the next batch is to be evaluated.
        """
        (outputs, _), collections = self._run(variables, batch)
        score = self.score(outputs, batch, train=False)
        return score.sums, {**score.examples, **collections}

    def answer(self, variables: dict[str, Any], batch: Batch) -> dict[str, jax.Array]:
        """Return what the model makes of sequences alone, as it is exported: its `outputs`.

        Args:
            variables: of the model, without a state that was carried: each sequence begins anew.
            batch: of which `inputs` and `length`, and perhaps `side`, are read.
        """
        (outputs, _), _ = self._run(variables, batch)
        return {"outputs": outputs}

    def state_after(self, variables: dict[str, Any], inputs: jax.Array, lengths: jax.Array) -> Any:
        """Return the state, arrays [N, …], in which sequences leave a recurrent model.

        Inside a `jit` lengths may be 0, and the state is that before the first step.
        """
        _, endpoints = self.model.apply(variables, inputs, lengths)
        return _layers_with_rows(endpoints["final_state"])

    def step(self, variables: dict[str, Any], state: Any, inputs: jax.Array):
        """Read one more step of each sequence, int[N] or float[N, D], of a model that runs forward.

        Returns:
            Its outputs [N, …], and the state after it; `research.decoding` decodes by this.
        """
        state = _layers_with_rows(state)
        outputs, endpoints = self.model.apply(variables, inputs[:, None], None, state)
        return outputs[:, 0], _layers_with_rows(endpoints["final_state"])

    def others(self, batch: Batch) -> dict[str, jax.Array]:
        """Return what else of a batch the model is called with."""
        return {"side": batch["side"]} if "side" in batch else {}

    def _run(
        self,
        variables: dict[str, Any],
        batch: Batch,
        rngs: dict[str, jax.Array] | None = None,
        **options,
    ):
        """Call the model, in training where there are `rngs`, which it draws from.

        Returns:
            Its `(outputs, endpoints)`, and the new collections.
        """
        inputs, length, others = batch["inputs"], batch["length"], self.others(batch) | options
        if rngs is None:
            return self.model.apply(variables, inputs, length, **others, train=False), {}
        mutable = [name for name in variables if name != "params"]
        return self.model.apply(
            variables, inputs, length, **others, train=True, rngs=rngs, mutable=mutable
        )

    def score(self, outputs: jax.Array, batch: Batch, *, train: bool) -> Score:
        """Score the outputs of a batch."""
        raise NotImplementedError

    def summarize(self, means: dict[str, float], examples: dict[str, np.ndarray]) -> Evaluation:
        """Return what the metric means, and the examples of a whole split, come to."""
        return Evaluation(means)


@dataclasses.dataclass(frozen=True)
class SequenceClassification(SequenceTask):
    """The class of a sequence (`label` int[B]), or of each of its steps (`targets` int[B, T]).

    Attributes:
        head: what the outputs mean.
        num_classes: K.
        label_smoothing: share of the target spread over the classes, in training.
        class_weights: of the K classes, by which a loss counts in training; () is 1.
    """

    head: Head = HEADS["softmax"]
    num_classes: int = 0
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] = ()

    def score(self, outputs: jax.Array, batch: Batch, *, train: bool) -> Score:
        """Score outputs [B, O], or [B, T, O]."""
        examples = {}
        if "label" in batch:
            labels, mask = batch["label"], batch["mask"]
            examples = {"outputs": outputs, "label": labels, "mask": mask}
        else:
            outputs = outputs.reshape(-1, outputs.shape[-1])
            labels, mask = batch["targets"].ravel(), real_steps(batch).ravel()
        loss = self.head.loss(outputs, labels, smoothing=self.label_smoothing if train else 0.0)
        if train and self.class_weights:
            loss *= example_weights(jnp.asarray(self.class_weights, loss.dtype), labels)
        sums = classification_sums(loss, self.head.predict(outputs), labels, mask)
        return Score(loss, mask, sums, examples)

    def answer(self, variables: dict[str, Any], batch: Batch) -> dict[str, jax.Array]:
        """As `SequenceTask.answer`, and the `probabilities` of the classes, if there are some."""
        return self.head.answer(super().answer(variables, batch)["outputs"])

    def summarize(self, means: dict[str, float], examples: dict[str, np.ndarray]) -> Evaluation:
        """Return the means, and of whole sequences what `summarize` finds beside them."""
        if not examples:
            return Evaluation(means)
        outputs, labels = examples["outputs"], examples["label"]
        return summarize(self.head, outputs, labels, self.num_classes, means)


@dataclasses.dataclass(frozen=True)
class SequenceRegression(SequenceTask):
    """Numbers that follow from a sequence: `target` float[B], or a future `targets` float[B, H, D].

    The loss is the mean squared error over all H·D numbers; `mae` is the mean absolute one. In the
    evaluation of a forecast `persistence_mse` is that squared error of the past's last step, taken
    for all of the future.

    Attributes:
        recursive: the model tells the next step of each (readout `steps`, D outputs), and the
            future is its own forecasts fed back to it, H times; else all H·D numbers at once.
    """

    recursive: bool = False

    def loss(self, variables: dict[str, Any], batch: Batch, key: jax.Array):
        """As `SequenceTask.loss`; of a recursive model, that of the next step of the whole series.

        The future is known in training, and so is fed to the model with the past.
        """
        if not self.recursive:
            return super().loss(variables, batch, key)
        series = jnp.concatenate([batch["inputs"], batch["targets"]], axis=1)
        taught = batch | {
            "inputs": series[:, :-1],
            "targets": series[:, 1:],
            "length": jnp.full_like(batch["length"], series.shape[1] - 1),
        }
        return super().loss(variables, taught, key)

    def evaluate(self, variables: dict[str, Any], batch: Batch):
        """As `SequenceTask.evaluate`."""
        if not self.recursive:
            return super().evaluate(variables, batch)
        score = self.score(self._unroll(variables, batch), batch, train=False)
        return score.sums, score.examples

    def score(self, outputs: jax.Array, batch: Batch, *, train: bool) -> Score:
        """Score outputs [B, H·D], or [B, H, D]."""
        targets = batch["target"] if "target" in batch else batch["targets"]
        error = (outputs.reshape(targets.shape) - targets).reshape(len(targets), -1)
        metrics = {"mae": jnp.abs(error).mean(-1)}
        if "targets" in batch and not train:
            last = (batch["length"] - 1)[:, None, None]
            persistent = jnp.take_along_axis(batch["inputs"], last, axis=1)
            metrics["persistence_mse"] = jnp.square(persistent - targets).mean((1, 2))
        return Score.of(jnp.square(error).mean(-1), batch["mask"], metrics)

    def _unroll(self, variables: dict[str, Any], batch: Batch) -> jax.Array:
        """Forecast [B, H, D], each step from the forecast before it."""
        apply = self.model.apply
        outputs, endpoints = apply(variables, batch["inputs"], batch["length"], train=False)
        last = jnp.take_along_axis(outputs, (batch["length"] - 1)[:, None, None], axis=1)

        def step(carry, _):
            state, x = carry
            y, endpoints = apply(variables, x, None, state, train=False)
            return (endpoints["final_state"], y), y[:, 0]

        horizon = batch["targets"].shape[1]
        _, rest = jax.lax.scan(step, (endpoints["final_state"], last), length=horizon - 1)
        return jnp.concatenate([last, jnp.swapaxes(rest, 0, 1)], axis=1)


@dataclasses.dataclass(frozen=True)
class Polyphony(SequenceTask):
    """Which of K notes sound at each step (`targets` float[B, T, K], 0 or 1), given those before.

    The loss is the negative log-likelihood of a step: the summed binary cross-entropies of its
    notes (Boulanger-Lewandowski et al. 2012, §6). `frame_accuracy` is Bay et al.'s: true positives
    over true positives, false positives and false negatives (2009, §4), of one step on average.
    """

    def score(self, outputs: jax.Array, batch: Batch, *, train: bool) -> Score:
        """Score logits [B, T, K]."""
        targets = batch["targets"]
        loss = optax.sigmoid_binary_cross_entropy(outputs, targets).sum(-1)
        played, meant = outputs > 0, targets > 0
        hits, either = jnp.sum(played & meant, -1), jnp.sum(played | meant, -1)
        accuracy = jnp.where(either > 0, hits / jnp.maximum(either, 1), 1.0)
        mask = real_steps(batch).ravel()
        return Score.of(loss.ravel(), mask, {"frame_accuracy": accuracy.ravel()})


@dataclasses.dataclass(frozen=True)
class CTC(SequenceTask):
    """A transcription, shorter than the sequence and not aligned with it.

    A batch holds `targets` int[B, U], whose ids begin at 1 (0 is the blank), and `target_length`.
    The loss is that of a sequence. `error_rate`, found from the best path (Graves et al. 2006,
    §3.2), is the edit distance over the length of the transcriptions; `accuracy` is the share of
    transcriptions without an error.
    """

    def score(self, outputs: jax.Array, batch: Batch, *, train: bool) -> Score:
        """Score logits [B, T, 1 + K]."""
        targets = batch["targets"]
        beyond = jnp.arange(targets.shape[1]) >= batch["target_length"][:, None]
        padding = 1 - real_steps(batch)
        loss = optax.ctc_loss(outputs, padding, targets, beyond.astype(outputs.dtype))
        path = jnp.where(padding > 0, 0, outputs.argmax(-1))
        examples = {k: batch[k] for k in ("targets", "target_length", "mask")}
        return Score.of(loss, batch["mask"])._replace(examples=examples | {"path": path})

    def summarize(self, means: dict[str, float], examples: dict[str, np.ndarray]) -> Evaluation:
        """Return the means, and the errors of the best paths."""
        errors = [
            edit_distance(collapse(path), list(target[:length]))
            for path, target, length in zip(
                examples["path"], examples["targets"], examples["target_length"], strict=True
            )
        ]
        rate = float(sum(errors) / examples["target_length"].sum())
        exact = float(np.mean(np.equal(errors, 0)))
        return Evaluation(means | {"error_rate": rate, "accuracy": exact})


def least_steps(targets: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Return the steps that CTC needs for each transcription: a blank parts equal neighbours.

    Args:
        targets: int[N, U].
        length: int[N], of each.

    Example:
        >>> least_steps(np.array([[3, 3, 1], [1, 2, 0]]), np.array([3, 2]))
        array([4, 2])
    """
    within = np.arange(1, targets.shape[1]) < length[:, None]
    return length + (within & (targets[:, 1:] == targets[:, :-1])).sum(1)


def collapse(path: np.ndarray) -> list[int]:
    """Return what a path through CTC's outputs says: repeats merged, blanks (0) left out.

    Example:
        >>> collapse(np.array([0, 3, 3, 0, 3, 1, 1, 0]))
        [3, 3, 1]
    """
    changes = np.flatnonzero(np.diff(path, prepend=0))
    return [int(i) for i in path[changes] if i]


def _layers_with_rows(state: Any) -> Any:
    """Exchange axes: models put layers before rows, decoders the other way round."""
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), state)


def real_steps(batch: Batch) -> jax.Array:
    """Return float[B, T], 1 for the steps of sequences that count, 0 for padding of either kind."""
    return steps_before(batch["length"], batch["inputs"].shape[1], batch["mask"])


def steps_before(length: jax.Array, steps: int, mask: jax.Array) -> jax.Array:
    """Return float[B, steps], 1 for the steps before `length` [B] of the rows where `mask` is 1."""
    return (jnp.arange(steps) < length[:, None]) * mask[:, None]
