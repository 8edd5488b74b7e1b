"""`--mode=models`: what there is to choose from, and what one of them is made of."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from research.config import UserError, get_config, override
from research.inspection.structure import Layer, structure
from research.models import MODELS, SEQUENCE_MODELS, create_model
from research.train.tasks import model_switches


def show_models(name: str | None, overrides: Mapping[str, Any]) -> None:
    """Print every model's size, or the layers of the one called `name`, with its switches.

    Args:
        name: of a model.
        overrides: fields of the config; those of `model.*` are the model's switches, and
            `data.image_size` is the side of its images instead of its paper's.

    Raises:
        UserError: an unknown model or one of sequences; a switch or an image it does not take.
    """
    config = override(get_config(), overrides, "--config")
    name = name or overrides.get("model.name")
    switches = model_switches(config)
    if name in SEQUENCE_MODELS:
        raise UserError(
            f"--model: found {name!r}, a model of sequences, whose sizes follow from the set; "
            "expected one of images, such as 'resnet20', or --dry_run with an experiment on it"
        )
    if name:
        return _show_layers(name, switches, config.data.image_size)
    if switches:
        switch, value = next(iter(switches.items()))
        raise UserError(
            f"--config.model.{switch}: found {value!r} for all models, expected --model=… with it"
        )
    _show_all(config.data.image_size)


def _show_all(image_size: int) -> None:
    table = Table("model", "parameters", "MACs", "input", "paper")
    sizes = {}  # of models that have several names, too
    for name in MODELS:
        model = create_model(name)
        shape = _shape(model, image_size)
        if model not in sizes:
            try:
                made_of = structure(model, shape)
                sizes[model] = f"{made_of.parameters:,}", _count(made_of.macs)
            except UserError:  # its layers shrink such images away
                sizes[model] = "–", "–"
        table.add_row(name, *sizes[model], _times(shape), model.paper)
    for column in table.columns[1:3]:
        column.justify = "right"
    console = Console(highlight=False)
    console.print(table)
    console.print("MACs: multiply–adds of convolutions and dense layers for one image.")


def _show_layers(name: str, switches: Mapping[str, Any], image_size: int) -> None:
    model = create_model(name, **switches)
    shape = _shape(model, image_size)
    made_of = structure(model, shape)
    table = Table("layer", "output", "parameters", "MACs", "receptive field", "stride")
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.justify = "right"
    for layer in made_of.layers:
        macs = _count(layer.macs) if layer.macs else ""
        parameters = f"{layer.parameters:,}" if layer.parameters else ""
        output = "only in training" if layer.output is None else _times(layer.output)
        table.add_row(layer.name, output, parameters, macs, *_field(layer, shape))
    console = Console(highlight=False)
    console.print(f"{name} on {_times(shape)}" + (f" ({model.paper})" if model.paper else ""))
    console.print(table)
    console.print(f"{made_of.parameters:,} parameters, {_count(made_of.macs)} multiply–adds")


def _shape(model: Any, image_size: int) -> tuple[int, ...]:
    """The images that the model is shown with: its paper's, or of another side."""
    *sides, channels = model.input_shape
    return (*([image_size] * len(sides) if image_size else sides), channels)


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
