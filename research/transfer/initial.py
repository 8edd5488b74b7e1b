"""The variables that a run starts from, where these are not drawn: `--config.init_from`."""

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from research.config import UserError
from research.files import read_json
from research.transfer.files import find, load_weights
from research.transfer.quantized import dequantize, is_quantized
from research.transfer.torch_layout import convert, misfit, overlay


def initial_variables(
    name: str,
    model: nn.Module,
    fresh: Mapping[str, Any],
    source: str,
    *,
    replace_head: bool = False,
) -> dict[str, Any]:
    """Return `fresh` with the weights of `source` in place of what was drawn.

    Args:
        name: what `create_model` calls `model`.
        model: the module.
        fresh: its variables as `init` returns them, or their shapes.
        source: as `load_weights` takes it; its tensors are named as in torch, or are those of a
            quantised MobileNet v2.
        replace_head: whether the last layer stays as it was drawn, as it has to where the classes
            are others.

    Raises:
        UserError: the weights cannot be read, or do not fit.
    """
    weights = load_weights(source)
    if is_quantized(weights):
        weights = dequantize(weights)
    fit = functools.partial(convert, name, model, fresh, weights)
    variables, problems = fit(leave=is_head) if replace_head else fit()
    if problems:
        hint = ""
        if not replace_head and not fit(leave=is_head)[1]:
            hint = (
                "\nAll but the last layer do: --config.transfer.replace_head=True draws it afresh"
            )
        raise UserError(f"init_from={source}: {misfit(name, problems)}{hint}")
    return overlay(fresh, variables)


def transplant(
    fresh: Mapping[str, Any],
    variables: Mapping[str, Any],
    source: str,
    *,
    replace_head: bool = False,
) -> dict[str, Any]:
    """Return `fresh` with the arrays of another network's `variables` in place of what was drawn.

    Args:
        fresh: variables as `init` returns them, or their shapes.
        variables: the other's, or their shapes.
        source: what they are called in errors.
        replace_head: whether the last layer stays as it was drawn.

    Raises:
        UserError: the two differ in more than their numbers, listing where.
    """

    def body(tree):
        flat = flatten_dict(dict(tree))
        return {path: x for path, x in flat.items() if not (replace_head and is_head(path))}

    own, others = body(fresh), body(variables)
    problems = [
        f"  missing: {_spell(path)} {list(own[path].shape)}" for path in own.keys() - others
    ]
    problems += [
        f"  too many: {_spell(path)} {list(others[path].shape)}" for path in others.keys() - own
    ]
    problems += [
        f"  misshapen: {_spell(path)}: found {list(others[path].shape)}, expected {list(x.shape)}"
        for path, x in own.items()
        if path in others and others[path].shape != x.shape
    ]
    if problems:
        hint = ""
        if not replace_head and all("/head/" in line for line in problems):
            hint = (
                "\nAll but the last layer do: --config.transfer.replace_head=True draws it afresh"
            )
        listed = "\n".join(sorted(problems))
        raise UserError(f"{source}: its network does not fit this one\n{listed}{hint}")
    return overlay(fresh, unflatten_dict(others))


def _spell(path: tuple[str, ...]) -> str:
    return "/".join(path)


def is_head(path: tuple[str, ...]) -> bool:
    """Whether an array of the variables belongs to a layer that makes logits."""
    return path[-2] == "head"


def check_source(source: str) -> None:
    """Check that what `init_from` names can be read, where that is a file of weights.

    Raises:
        UserError: it cannot.
    """
    if source and not source.startswith("arm:") and not Path(source).is_dir():
        load_weights(source)


def is_run(source: str) -> bool:
    """Whether `init_from` names the directory of a run that has finished."""
    return (Path(source) / "result.json").exists()


def source_digest(source: str) -> str:
    """Return the SHA-256 of the weights that `init_from` names, by which a run knows them again."""
    if is_run(source):
        return read_json(Path(source) / "result.json")["params_digest"]
    path = find(source)
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _digest(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
