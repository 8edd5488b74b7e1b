"""The variables that a run starts from, where these are not drawn: `--config.init_from`."""

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax import linen as nn

from research.config import UserError
from research.transfer.files import find, load_weights
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
        source: as `load_weights` takes it; its tensors are named as in torch.
        replace_head: whether the last layer stays as it was drawn, as it has to where the classes
            are others.

    Raises:
        UserError: the weights cannot be read, or do not fit.
    """
    weights = load_weights(source)
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


def is_head(path: tuple[str, ...]) -> bool:
    """Whether an array of the variables belongs to a layer that makes logits."""
    return path[-2] == "head"


def source_digest(source: str) -> str:
    """Return the SHA-256 of what `init_from` names, by which a run knows it again."""
    path = find(source)
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _digest(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
