"""Looks into models of images."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research.commands.views.subject import SHOWN, Numbers, Subject
from research.config import UserError
from research.data.preprocess import channel_statistics
from research.inspection.endpoints import shapes
from research.inspection.invariance import translation_curve
from research.inspection.occlusion import at_pixels, occlude, places
from research.inspection.receptive_field import (
    effective_receptive_field,
    effective_size,
    share_inside,
)
from research.inspection.saliency import grad_cam, gradient, smooth_gradient
from research.inspection.units import dead_units, first_kernel, silent_share

DEPTHS = 4  # endpoints that are shown where none is named
CHANNELS = 7  # feature maps of each that are shown


def kernels(subject: Subject) -> Numbers:
    """The filters of the first convolution."""
    layers = [layer.name for layer in subject.structure.layers]
    kernel = first_kernel(subject.variables["params"], layers)
    return {"kernel": np.asarray(kernel, np.float32)}


def features(subject: Subject) -> Numbers:
    """The most active feature maps of one endpoint for some images, or of several for one."""
    endpoints = subject.endpoints(DEPTHS)
    count = SHOWN if len(endpoints) == 1 else 1

    @jax.jit
    def run(variables, images):
        found = subject.apply(variables, images)[1]
        return {name: found[name] for name in endpoints}

    found, rows = run(subject.variables, subject.images[:count]), []
    for name in endpoints:
        for i, maps in enumerate(np.asarray(found[name], np.float32)):
            channels = np.argsort(-np.abs(maps).mean((0, 1)), kind="stable")[:CHANNELS]
            shown = {"channels": channels, "maps": maps[..., channels]}
            rows.append({"endpoint": name, "image": i} | shown)
    return subject.shown() | {"rows": rows}


def receptive_field(subject: Subject) -> Numbers:
    """The theoretical and the effective receptive field of endpoints' central units."""
    images, rows = subject.normalized(subject.images), []
    sizes = shapes(subject.apply, subject.variables, subject.images)
    for name in subject.watch("receptive_field")(subject.endpoints(DEPTHS)):
        seen = effective_receptive_field(subject.task.model, subject.variables, images, name)
        unit, fields = [n // 2 for n in sizes[name][1:-1]], subject.structure.endpoints[name]
        ends = [field.pixels(i) for field, i in zip(fields, unit, strict=True)]
        rows.append(
            {
                "endpoint": name,
                "size": [float(field.size) for field in fields],
                "stride": [float(field.stride) for field in fields],
                "first": [float(first) for first, _ in ends],
                "effective_size": effective_size(seen),
                "inside": share_inside(seen, fields, unit),
                "gradient": seen,
            }
        )
    return {"rows": rows}


def occlusion(subject: Subject) -> Numbers:
    """What a covered patch costs: the probability of the class by place, and the accuracy."""
    height, width, _ = subject.images.shape[1:]
    patch, stride, colour = patches(subject)
    head = subject.task.head

    def score(operands, images):
        variables, labels = operands
        outputs, _ = subject.apply(variables, images)
        probabilities = head.probabilities(outputs)
        of_class = jnp.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
        return {"probability": of_class, "right": head.predict(outputs) == labels}

    operands = subject.variables, subject.batch["label"]
    plain = jax.device_get(jax.jit(score)(operands, subject.images))
    covered = occlude(
        score,
        operands,
        subject.images,
        patch=patch,
        stride=stride,
        fill=colour,
        watch=subject.watch("occlusion"),
    )
    drop = plain["probability"] - covered["probability"]
    by_pixel = at_pixels(drop, (height, width), patch, stride)
    accuracy = covered["right"].mean(-1)
    shown = np.argsort(-np.nanmax(by_pixel, (0, 1)), kind="stable")[:SHOWN]  # the most affected
    return subject.shown(shown) | {
        "patch": patch,
        "stride": stride,
        "fill": subject.options.fill or "mean",
        "examples": len(subject.images),
        "accuracy": plain["right"].mean(),
        "accuracy_covered": accuracy.mean(),
        "least_accuracy_covered": accuracy.min(),
        "accuracy_map": at_pixels(accuracy, (height, width), patch, stride),
        "drop_map": by_pixel.mean(-1),
        "drops": np.moveaxis(by_pixel[..., shown], -1, 0),
    }


def patches(subject: Subject) -> tuple[int, int, Any]:
    """Return the side, the stride and the colour of the patches that cover images, by the flags.

    Raises:
        UserError: a patch that is larger than the image, or a stride or a colour that cannot be.
    """
    patch, stride, fill = subject.options[1:]
    sides = subject.images.shape[1:3]
    patch = max(1, min(sides) // 4) if patch is None else patch
    stride = max(1, patch // 2) if stride is None else stride
    places(min(sides), patch, stride)
    if fill in (None, "mean"):
        return patch, stride, channel_statistics(subject.dataset.train)[0]
    try:
        grey = float(fill)
    except ValueError:
        grey = math.nan
    if not 0 <= grey <= 1:
        raise UserError(f"--fill: found {fill!r}, expected 'mean' or a grey from 0 to 1")
    return patch, stride, grey


def saliency(subject: Subject) -> Numbers:
    """Where the predicted class is decided: gradient, SmoothGrad, Grad-CAM."""
    variables, images = subject.variables, subject.images[:SHOWN]
    classes = subject.predicted[:SHOWN]

    def apply(variables, images):
        outputs, endpoints = subject.apply(variables, images)
        if outputs.shape[-1] == 1:  # one logit of two classes
            outputs = jnp.concatenate([-outputs, outputs], axis=-1)
        return outputs, endpoints

    watch, key = subject.watch("saliency"), jax.random.key(0)
    found = {
        "gradient": gradient(apply, variables, images, classes),
        "smooth_gradient": smooth_gradient(apply, variables, images, classes, key, watch=watch),
    }
    if subject.maps:
        (endpoint,) = subject.endpoints(1)
        found["grad_cam"] = grad_cam(apply, variables, images, classes, endpoint)
        found["endpoint"] = endpoint
    return subject.shown() | found


def invariance(subject: Subject) -> Numbers:
    """Accuracy and consistency by how far images move."""
    images, labels = np.asarray(subject.batch["image"]), np.asarray(subject.batch["label"])
    most = min(images.shape[1:3]) // 3
    predict, watch = jax.jit(subject.predict), subject.watch("invariance")
    found = translation_curve(predict, subject.variables, images, labels, most, watch)
    return {"examples": len(images), "pixels": list(range(most + 1))} | found


def dead(subject: Subject) -> Numbers:
    """The share of each activation's channels that are 0 for all examples, and of zeros."""

    @jax.jit
    def run(variables, images):
        endpoints = subject.apply(variables, images)[1]
        return dead_units(endpoints), silent_share(endpoints)

    shares, silent = jax.device_get(run(subject.variables, subject.images))
    order = [n for n in shapes(subject.apply, subject.variables, subject.images) if n in shares]
    return {
        "examples": len(subject.images),
        "layers": order,
        "dead": [float(shares[n]) for n in order],
        "zero": [float(silent[n]) for n in order],
    }
