"""Image classification: batch → loss and metric sums."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from research.data.augment import augment, mixes
from research.data.preprocess import normalize, to_unit
from research.losses import example_weights, masked_mean
from research.metrics import classification_sums
from research.tasks.evaluation import Evaluation, summarize
from research.tasks.heads import HEADS, Head
from research.transfer.batch_norm import frozen_batch_norms, moments

Batch = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Classification:
    """What a model that sees images and names their class is trained and judged by.

    A batch is `{"image": uint8[N, H, W, C], "label": int32[N], "mask": float32[N]}`; mask 0 marks
    padding, which counts nowhere.

    Attributes:
        model: returns `(outputs [N, O], endpoints)`.
        mean: per channel, in [0, 1] units; subtracted.
        std: per channel; divided by.
        augmentations: as `research.data.augment` reads them, applied in training. Where they mix
            labels, the loss is of the mixture, and accuracy of the class with its largest share.
        fill: per channel, the colour of what an augmentation moves into the frame.
        num_classes: K, which augmentations that mix labels need.
        label_smoothing: share of the target spread over the classes, in training.
        dtype: of the images that enter the model.
        head: what the outputs mean.
        class_weights: of the K classes, by which an example's loss counts in training; () is 1.
        freeze: patterns of the parameters that are frozen, see `research.transfer.patterns`: their
            batch norms keep their running averages, and use them in training.
    """

    model: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentations: tuple[str, ...] = ()
    fill: tuple[float, ...] | float = 0.0
    num_classes: int = 0
    label_smoothing: float = 0.0
    dtype: Any = jnp.float32
    head: Head = HEADS["softmax"]
    class_weights: tuple[float, ...] = ()
    freeze: tuple[str, ...] = ()

    def init(self, key: jax.Array, batch: Batch) -> dict[str, Any]:
        """Return fresh variables: `params` and the model's collections."""
        return self.model.init(key, self._images(batch), train=False)

    def loss(self, variables: dict[str, Any], batch: Batch, key: jax.Array):
        """Return `(mean loss, (new collections, metric sums, endpoints))` of a training batch.

        The loss is of the output and, by the model's `aux_weights`, of its auxiliary heads.
        """
        augment_key, dropout_key = jax.random.split(key)
        batch = self.augment(batch, augment_key)
        with frozen_batch_norms(self.freeze):
            (outputs, endpoints), collections = self.model.apply(
                variables,
                self.normalize(batch["image"]),
                train=True,
                rngs={"dropout": dropout_key},
                mutable=[name for name in variables if name != "params"],
            )
        loss = self.head.loss(outputs, batch["label"], smoothing=self.label_smoothing)
        for name, weight in self.model.aux_weights.items():
            if name in endpoints:  # unless they are switched off
                aux = endpoints[name]
                loss += weight * self.head.loss(aux, batch["label"], smoothing=self.label_smoothing)
        if self.class_weights:
            weights = jnp.asarray(self.class_weights, loss.dtype)
            loss = loss * example_weights(weights, batch["label"])
        sums = self._sums(loss, outputs, batch)
        return masked_mean(loss, batch["mask"]), (collections, sums, endpoints)

    def augment(self, batch: Batch, key: jax.Array) -> Batch:
        """Return a training batch with its images augmented, float32[N, H, W, C] in [0, 1].

        Its labels are float32[N, K], shares of the classes, where augmentations mix them.
        """
        label = batch["label"]
        if mixes(self.augmentations):
            label = jax.nn.one_hot(label, self.num_classes)
        images = to_unit(batch["image"])
        images, label = augment(self.augmentations, key, images, label, self.fill)
        return batch | {"image": images, "label": label}

    def normalize(self, images: jax.Array) -> jax.Array:
        """Return images, float[N, H, W, C] in [0, 1], as they enter the model."""
        return normalize(images, self.mean, self.std, self.dtype)

    def evaluate(self, variables: dict[str, Any], batch: Batch):
        """Return `(metric sums, {"outputs", "label", "mask"})` of an evaluation batch.

        There is no smoothing and no weight of classes, and statistics are the running ones.
        """
        outputs, _ = self.model.apply(variables, self._images(batch), train=False)
        loss = self.head.loss(outputs, batch["label"])
        examples = {"outputs": outputs, "label": batch["label"], "mask": batch["mask"]}
        return self._sums(loss, outputs, batch), examples

    def answer(self, variables: dict[str, Any], batch: Batch) -> dict[str, jax.Array]:
        """Return what the model makes of images alone, as it is exported.

        Args:
            variables: of the model.
            batch: of which `image`, uint8[N, H, W, C], is read.

        Returns:
            `outputs`, and the `probabilities` of the classes, where the head has some.
        """
        outputs, _ = self.model.apply(variables, self._images(batch), train=False)
        return self.head.answer(outputs)

    def summarize(self, means: dict[str, float], examples: dict[str, np.ndarray]) -> Evaluation:
        """Return what the metric means, and the examples of a whole split, come to."""
        outputs, labels = examples["outputs"], examples["label"]
        return summarize(self.head, outputs, labels, self.num_classes, means)

    def moments(self, variables: dict[str, Any], batch: Batch) -> Any:
        """Return the statistics of a batch in each batch norm; see `batch_norm.moments`."""
        return moments(self.model, variables, self._images(batch), batch["mask"])

    def _sums(self, loss: jax.Array, outputs: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        predictions = self.head.predict(outputs)
        return classification_sums(loss, predictions, batch["label"], batch["mask"])

    def _images(self, batch: Batch) -> jax.Array:
        return self.normalize(to_unit(batch["image"]))
