"""What `--mode=inspect --what=…` names: each looks at a trained model and returns numbers."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from research.commands.views.images import (
    dead,
    features,
    invariance,
    kernels,
    occlusion,
    patches,
    receptive_field,
    saliency,
)
from research.commands.views.parameters import gradient_flow, loss_landscape
from research.commands.views.sequences import attention, gates, recorded, state_gradient, states
from research.commands.views.subject import Numbers, Subject
from research.config import UserError, unknown
from research.models.rnn import Recurrent
from research.tasks.classification import Classification
from research.tasks.translation import Translation


class View(NamedTuple):
    """What can be looked at.

    Attributes:
        look: what finds its numbers.
        wants: the models that have it, in words.
        fits: whether a model is one of them.
    """

    look: Callable[[Subject], Numbers]
    wants: str
    fits: Callable[[Subject], bool]


def _of_images(subject: Subject) -> bool:
    return isinstance(subject.task, Classification)


def _has_maps(subject: Subject) -> bool:
    return _of_images(subject) and bool(subject.maps)


def _has_classes(subject: Subject) -> bool:
    return _of_images(subject) and subject.task.head.probabilities is not None


def _has_kernels(subject: Subject) -> bool:
    leaves = jax.tree.leaves(subject.variables["params"])
    return _has_maps(subject) and any(x.ndim == 4 for x in leaves)


def _recurrent(subject: Subject) -> bool:
    return isinstance(subject.task.model, Recurrent)


def _has_gates(subject: Subject) -> bool:
    return _recurrent(subject) and any(n.endswith("_gate") for n in recorded(subject, shapes=True))


def _attends(subject: Subject) -> bool:
    return isinstance(subject.task, Translation) and subject.task.model.attention != "none"


_MAPS, _CLASSES = "a network with feature maps of images", "a classifier of images"
VIEWS = {
    "kernels": View(kernels, "a network that convolves images", _has_kernels),
    "features": View(features, _MAPS, _has_maps),
    "receptive_field": View(receptive_field, _MAPS, _has_maps),
    "occlusion": View(occlusion, _CLASSES, _has_classes),
    "saliency": View(saliency, _CLASSES, _has_classes),
    "invariance": View(invariance, "a model of images", _of_images),
    "dead_units": View(dead, "a model of images", _of_images),
    "gradient_flow": View(gradient_flow, "any model", lambda subject: True),
    "landscape": View(loss_landscape, "any model", lambda subject: True),
    "states": View(states, "a recurrent network", _recurrent),
    "gates": View(gates, "a recurrent network with gates", _has_gates),
    "state_gradient": View(state_gradient, "a recurrent network", _recurrent),
    "attention": View(attention, "a translator with attention", _attends),
}


def check_names(names: list[str]) -> None:
    """Check that there are such views.

    Raises:
        UserError: none is named, or one that is not there.
    """
    if not names:
        raise UserError(f"--what: found none, expected some of {', '.join(VIEWS)}, or all")
    for name in names:
        if name not in (*VIEWS, "all"):
            raise unknown("--what", name, (*VIEWS, "all"))


def chosen(names: list[str], subject: Subject) -> list[str]:
    """Return the views of those names, in order; of `all`, those that fit.

    Raises:
        UserError: one does not fit the model, with those that do; or a flag that cannot be.
    """
    fitting = [name for name, view in VIEWS.items() if view.fits(subject)]
    for name in names:
        if name not in (*fitting, "all"):
            raise UserError(
                f"--what: found {name!r}, which wants {VIEWS[name].wants}, with a "
                f"{subject.trained.config.model.name!r} on {subject.dataset.name!r}; expected some "
                f"of {', '.join(fitting)}, or all"
            )
    found = [name for name in fitting if name in names or "all" in names]
    # What a flag cannot be is said before anything takes its time.
    if "occlusion" in found:
        patches(subject)
    if subject.options.endpoint and {"features", "receptive_field", "saliency"} & {*found}:
        subject.endpoints(1)
    return found
