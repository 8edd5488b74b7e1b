"""`--mode=models`: what there is to choose from, and what one of them is made of."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from research.config import UserError, get_config, override
from research.inspection.structure import BATCH, Layer, Structure, structure
from research.models import ALL_MODELS, MODELS, create_model, switches_of
from research.train.tasks import model_switches

VOCABULARY = 10_000  # tokens of a model that reads nothing else, where no number is asked for


def show_models(name: str | None, overrides: Mapping[str, Any]) -> None:
    """Print every model's size, or the layers of the one called `name`, with its switches.

    Args:
        name: of a model.
        overrides: fields of the config; those of `model.*` are the model's switches. Instead of
            what it is shown with, `data.image_size` is the side of its images, `data.length` the
            steps of its sequences, and `data.vocabulary_size` how many tokens it knows.

    Raises:
        UserError: an unknown model; a switch or an input that it does not take.
    """
    config = override(get_config(), overrides, "--config")
    name = name or overrides.get("model.name")
    switches = model_switches(config)
    if name:
        return _show_layers(_shown(name, switches, config.data))
    if switches:
        switch, value = next(iter(switches.items()))
        raise UserError(
            f"--config.model.{switch}: found {value!r} for all models, expected --model=… with it"
        )
    _show_all(config.data)


class _Shown(NamedTuple):
    """A model, and the input that it is shown with."""

    name: str
    model: nn.Module
    shape: tuple[int, ...]
    tokens: int = 0  # that the input's numbers are ids of; 0: they are features

    def structure(self) -> Structure:
        others, dtype = {}, jnp.int32 if self.tokens else jnp.float32
        if self.name == "seq2seq":  # a target as long as the source
            others = {"target_in": jax.ShapeDtypeStruct((BATCH, *self.shape), dtype)}
        return structure(self.model, self.shape, dtype, **others)

    def input(self) -> str:
        kind = f" of {self.tokens:,} tokens" if self.tokens else ""
        return _times(self.shape) + kind


def _shown(name: str, switches: Mapping[str, Any], data: ConfigDict) -> _Shown:
    if name in MODELS or name not in ALL_MODELS:
        model = create_model(name, **switches)
        *sides, channels = model.input_shape
        return _Shown(name, model, (*([data.image_size or side for side in sides]), channels))
    steps, *features = ALL_MODELS[name].input_shape
    tokens, vocabularies = 0, {}
    if not features:
        tokens = data.vocabulary_size or VOCABULARY
        vocabularies = dict.fromkeys(("source_vocabulary", "target_vocabulary"), tokens)
    elif data.vocabulary_size and "vocabulary_size" in switches_of(name):
        tokens = vocabularies["vocabulary_size"] = data.vocabulary_size
        if switches.get("tied"):
            vocabularies["num_classes"] = tokens
    model = create_model(name, **switches, **vocabularies)
    return _Shown(name, model, (data.length or steps, *(() if tokens else features)), tokens)


def _show_all(data: ConfigDict) -> None:
    table = Table("model", "parameters", "MACs", "input", "paper")
    sizes = {}  # of models that have several names, too
    for name in ALL_MODELS:
        shown = _shown(name, {}, data)
        if shown.model not in sizes:
            try:
                made_of = shown.structure()
                sizes[shown.model] = f"{made_of.parameters:,}", _count(made_of.macs)
            except UserError:  # its layers shrink such images away
                sizes[shown.model] = "–", "–"
        table.add_row(name, *sizes[shown.model], shown.input(), shown.model.paper)
    for column in table.columns[1:3]:
        column.justify = "right"
    console = Console(highlight=False)
    console.print(table)
    console.print("MACs: multiply–adds of activations with parameters, for one image or sequence.")


def _show_layers(shown: _Shown) -> None:
    made_of, paper = shown.structure(), shown.model.paper
    table = Table("layer", "output", "parameters", "MACs", "receptive field", "stride")
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.justify = "right"
    for layer in made_of.layers:
        macs = _count(layer.macs) if layer.macs else ""
        parameters = f"{layer.parameters:,}" if layer.parameters else ""
        output = "only in training" if layer.output is None else _times(layer.output)
        table.add_row(
            layer.name or shown.name, output, parameters, macs, *_field(layer, shown.shape)
        )
    console = Console(highlight=False)
    console.print(f"{shown.name} on {shown.input()}" + (f" ({paper})" if paper else ""))
    console.print(table)
    console.print(f"{made_of.parameters:,} parameters, {_count(made_of.macs)} multiply–adds")


def _field(layer: Layer, shape: tuple[int, ...]) -> tuple[str, str]:
    """The receptive field and its stride, one number where both axes agree."""
    if not layer.fields:
        return "", ""
    if all(f.stride == 0 and f.size == n for f, n in zip(layer.fields, shape[:-1], strict=True)):
        return "all", ""
    return _agree(f.size for f in layer.fields), _agree(f.stride or "–" for f in layer.fields)


def _agree(values: Any) -> str:
    values = list(values)
    return str(values[0]) if len(set(values)) == 1 else _times(values)


def _times(values: Any) -> str:
    return "×".join(map(str, values))


def _count(number: int) -> str:
    """A number of operations, as papers write it."""
    for unit, letter in ((10**9, "G"), (10**6, "M")):
        if number >= unit:
            return f"{number / unit:.2f} {letter}"
    return f"{number:,}"
