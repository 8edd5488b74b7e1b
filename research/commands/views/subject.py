"""What one looks at: a trained model, and examples of its test split."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from rich.console import Console

from research import progress
from research.commands.trained import Trained
from research.config import UserError
from research.data.preprocess import normalize, to_unit
from research.inspection.endpoints import named, shapes
from research.inspection.structure import BATCH, Structure, structure
from research.tasks.additions import CARRY

SHOWN = 5  # examples that are pictured; all count in means

Numbers = dict[str, Any]


class Options(NamedTuple):
    """How to look, as the flags say; None: as the model's images suggest."""

    endpoint: str | None = None
    patch: int | None = None
    stride: int | None = None
    fill: str | None = None


class Subject:
    """A trained model, and examples of its test split."""

    def __init__(self, trained: Trained, batch: dict[str, jax.Array], options: Options):
        """See `Trained`, `research.data.feed` and `Options`."""
        self.trained, self.batch, self.options = trained, batch, options
        self.dataset = trained.dataset
        # Without what a run carries from batch to batch, which is of its own batches.
        variables = {k: v for k, v in trained.variables.items() if k != CARRY}
        self.task, self.variables = _as_computed(trained.task, variables)

    def watch(self, what: str) -> Callable[[Iterable], Iterator]:
        """Return what goes through the parts of a long computation and shows how far it is."""
        return partial(progress.each, Console(), what)

    @cached_property
    def images(self) -> jax.Array:
        """[N, H, W, C] in [0, 1]."""
        return to_unit(self.batch["image"])

    def apply(self, variables: Any, images: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Evaluate the model on images in [0, 1]."""
        return self.task.model.apply(variables, self.normalized(images), train=False)

    def normalized(self, images: jax.Array) -> jax.Array:
        """Images in [0, 1] as the model takes them."""
        return normalize(images, self.task.mean, self.task.std, self.task.dtype)

    def predict(self, variables: Any, images: jax.Array) -> jax.Array:
        """The classes int[N] of images, uint8."""
        return self.task.head.predict(self.apply(variables, to_unit(images))[0])

    @cached_property
    def predicted(self) -> jax.Array:
        """The classes of the examples."""
        return jax.jit(self.predict)(self.variables, self.batch["image"])

    @cached_property
    def structure(self) -> Structure:
        """What the model is made of."""
        if "image" in self.batch:
            return structure(self.task.model, self.images.shape[1:])
        inputs, others = self.batch["inputs"], self.task.others(self.batch)
        others = {
            k: jax.ShapeDtypeStruct((BATCH, *v.shape[1:]), v.dtype) for k, v in others.items()
        }
        return structure(self.task.model, inputs.shape[1:], inputs.dtype, **others)

    @cached_property
    def maps(self) -> list[str]:
        """The endpoints that are feature maps of more than one position, from the input on."""
        found = shapes(self.apply, self.variables, self.images)
        return [name for name, s in found.items() if len(s) == 4 and s[1] * s[2] > 1]

    def endpoints(self, count: int) -> list[str]:
        """The endpoint that the flag names, or `count` of the feature maps, the last among them."""
        if name := self.options.endpoint:
            known = shapes(self.apply, self.variables, self.images)
            if named(known, name) is not None and name not in self.maps:
                raise UserError(
                    f"--endpoint: found {name!r}, which has no positions to show, expected one of "
                    f"the feature maps: {', '.join(self.maps) or 'this model has none'}"
                )
            return [name]
        places = np.linspace(len(self.maps) - 1, 0, min(count, len(self.maps))).round()
        return [self.maps[int(i)] for i in places[::-1]]

    def loss(self, params: Any, variables: Any, batch: dict[str, jax.Array]) -> jax.Array:
        """The mean loss of the examples in evaluation."""
        sums, _ = self.task.evaluate(variables | {"params": params}, batch)
        return sums["loss"] / sums["count"]

    def name(self, label: Any) -> str:
        """The name of a class; of a number that is none, the number."""
        names, label = self.dataset.class_names, int(label)
        return names[label] if 0 <= label < len(names) else str(label)

    def shown(self, places: Sequence[int] = range(SHOWN)) -> Numbers:
        """The images that are pictured, by default the first, and what they are of."""
        places = [int(i) for i in places if i < len(self.images)]
        return {
            "images": np.asarray(self.batch["image"])[places],
            "classes": [self.name(self.batch["label"][i]) for i in places],
            "predicted": [self.name(self.predicted[i]) for i in places],
        }


def _as_computed(task: Any, variables: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return a task and variables that compute the same, with parameters as they are multiplied.

    Of a quantised network these are steps of few bits, whether it lies in a file, as integers, or
    in a checkpoint. They are not quantised again, which would change them: the largest of eight
    bits lies half a step within the range.
    """
    if isinstance(task.model, nn.Module):
        return task, variables
    from research.compression.quantization import dequantize, quantize  # imports qwix

    params = dequantize(quantize(variables["params"], task.model.kind))
    model = dataclasses.replace(task.model, kind="float32")
    return dataclasses.replace(task, model=model), variables | {"params": params}
