"""Augmentations by name: `("pad_crop", "rotate(degrees=15)", "mixup(alpha=0.4, p=0.5)")`.

They see images in [0, 1], before any normalisation, and leave them there. Pure, keyed, on batches;
each image has its own draw.
"""

import ast
import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from research.config import UserError, nearest, unknown
from research.data.augmentations import colour, geometry, mixing, rand_augment
from research.data.augmentations.geometry import Fill, Share

AUGMENTATIONS: dict[str, Callable] = {
    function.__name__: function
    for function in (
        *(geometry.flip, geometry.flip_up_down, geometry.pad_crop, geometry.rotate),
        *(geometry.translate, geometry.scale, geometry.random_resized_crop, geometry.elastic),
        *(colour.brightness, colour.contrast, colour.saturation, colour.hue),
        *(colour.color_jitter, colour.gaussian_noise, colour.cutout),
        *(mixing.mixup, mixing.cutmix, rand_augment.rand_augment),
    )
}
NEED_COLOUR = ("saturation", "hue")
EVERY = {"p": Share}  # what every augmentation takes: the share of images that it is applied to


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """One augmentation as declared.

    Attributes:
        name: in `AUGMENTATIONS`.
        settings: its arguments, as (name, value); the others have their defaults.
        p: the share of images that it is applied to.
    """

    name: str
    settings: tuple[tuple[str, Any], ...] = ()
    p: float = 1.0

    @property
    def mixes(self) -> bool:
        """Whether it changes labels too."""
        return "targets" in inspect.signature(AUGMENTATIONS[self.name]).parameters

    def __call__(self, key: jax.Array, images: jax.Array, targets: Any, fill: Fill):
        """Return the images and the targets changed."""
        function = AUGMENTATIONS[self.name]
        settings = dict(self.settings)
        if self.mixes:
            return function(key, images, targets, **settings)
        if "fill" in inspect.signature(function).parameters:
            settings["fill"] = fill
        return function(key, images, **settings), targets


def augment(
    declared: Sequence[str],
    key: jax.Array,
    images: jax.Array,
    targets: Any = None,
    fill: Fill = 0.0,
) -> tuple[jax.Array, Any]:
    """Apply the declared augmentations in order, each with its own key.

    Args:
        declared: as in `data.augment`.
        key: of all draws.
        images: float[N, H, W, C] in [0, 1].
        targets: float[N, ...] if `mixes(declared)`; whatever, else.
        fill: the colour of what comes into the frame from outside, one number or one per channel;
            the dataset's mean, which standardisation turns into zero.

    Returns:
        The images and the targets, of the same shapes and dtypes.

    Raises:
        UserError: as `check`.
    """
    chooser = jax.random.fold_in(key, len(declared))
    for position, one in enumerate(check(declared, images.shape[-1])):
        before = images, targets
        images, targets = one(jax.random.fold_in(key, position), images, targets, fill)
        if one.p < 1:
            chooser_key = jax.random.fold_in(chooser, position)
            chosen = jax.random.bernoulli(chooser_key, one.p, (len(images),))
            images = _where(chosen, images, before[0])
            targets = _where(chosen, targets, before[1]) if one.mixes else targets
    return images, targets


def mixes(declared: Sequence[str]) -> bool:
    """Whether any of the declared augmentations mixes labels."""
    return any(one.mixes for one in check(declared))


def check(declared: Sequence[str], channels: int | None = None) -> tuple[Augmentation, ...]:
    """Parse `data.augment`.

    Raises:
        UserError: neither a name nor a call with literal keyword arguments, an unknown name, an
            argument that it does not take, of another type or out of range, or an augmentation of
            colours for images of `channels` other than 3.
    """
    parsed = tuple(parse(one) for one in declared)
    for one in parsed:
        if one.name in NEED_COLOUR and channels not in (3, None):
            raise UserError(
                f"data.augment: found {one.name!r}, which needs images of 3 channels, and images "
                f"of {channels}, which have none; expected it to be left out"
            )
    return parsed


@functools.cache
def parse(text: str) -> Augmentation:
    """Read one entry of `data.augment`.

    Example:
        >>> parse("rotate(degrees=30, p=0.5)")
        Augmentation(name='rotate', settings=(('degrees', 30.0),), p=0.5)
    """
    name, arguments = _split(text)
    if name not in AUGMENTATIONS:
        raise unknown("data.augment", name, AUGMENTATIONS)
    known = arguments_of(name)
    for argument, value in arguments.items():
        if argument not in known:
            raise UserError(
                f"data.augment: {name} takes no {argument!r}, only {_spell(known)}"
                f"{nearest(argument, known)}"
            )
        kind, (low, high) = typing.get_args(known[argument])
        kinds = (int,) if kind is int else (int, float)
        if type(value) not in kinds or not low <= value <= high:
            raise UserError(f"data.augment: {name}: {argument}={value!r}, expected {_spell(known)}")
        arguments[argument] = kind(value)
    # A flip has its own p, whose draw is all that it does.
    p = 1.0 if "p" in _parameters(name) else arguments.pop("p", 1.0)
    return Augmentation(name, tuple(arguments.items()), p)


def arguments_of(name: str) -> dict[str, Any]:
    """Return the arguments that an augmentation takes: name → `Annotated[type, (low, high)]`."""
    hints = typing.get_type_hints(AUGMENTATIONS[name], include_extras=True)
    return EVERY | {argument: hints[argument] for argument in _parameters(name)}


def _parameters(name: str) -> list[str]:
    signature = inspect.signature(AUGMENTATIONS[name])
    return [p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]


def _split(text: str) -> tuple[str, dict[str, Any]]:
    """Take `name(argument=literal, …)` apart without evaluating anything."""
    try:
        node = ast.parse(text, mode="eval").body
        if isinstance(node, ast.Name):
            return node.id, {}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
            values = {word.arg: ast.literal_eval(word.value) for word in node.keywords}
            if None not in values:  # **
                return node.func.id, values
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError):
        pass
    raise UserError(
        f"data.augment: found {text!r}, expected a name or a call with literal keyword arguments, "
        "for instance 'rotate(degrees=15)'"
    )


def _spell(known: dict[str, Any]) -> str:
    """Spell what an augmentation takes: "p (0 to 1), degrees (0 to 180)"."""
    spelt = []
    for argument, hint in known.items():
        kind, (low, high) = typing.get_args(hint)
        spelt.append(f"{argument} ({'integer, ' if kind is int else ''}{low:g} to {high:g})")
    return ", ".join(spelt)


def _where(chosen: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.where(chosen.reshape(-1, *[1] * (new.ndim - 1)), new, old)
