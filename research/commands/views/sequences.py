"""Looks into recurrent networks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research.commands.views.subject import Numbers, Subject
from research.inspection.recurrent import before_end, by_peak, saturation
from research.tasks.sequence import real_steps
from research.tasks.through_time import state_gradients

STEPS = 60  # of a sequence that are shown
SENTENCES = 4


def states(subject: Subject) -> Numbers:
    """What each layer's units say at each step of the first sequence."""
    endpoints, steps = recorded(subject), min(int(subject.batch["length"][0]), STEPS)
    layers = [n for n in endpoints if n.startswith("layer") and "/" not in n]
    rows = []
    for layer in layers:
        found = np.asarray(endpoints[layer][0, :steps], np.float32)
        rows.append({"layer": layer, "units": by_peak(found), "states": found[:, by_peak(found)]})
    return {"steps": _words(subject, subject.batch["inputs"][0, :steps]), "rows": rows}


def gates(subject: Subject) -> Numbers:
    """How often each unit's gates are nearly shut and nearly open."""
    endpoints, real, rows = recorded(subject), real_steps(subject.batch), []
    for name in sorted(n for n in endpoints if n.endswith("_gate")):
        below, above = jax.device_get(saturation(endpoints[name], real))
        rows.append({"gate": name, "below": below, "above": above})
    return {"rows": rows}


def state_gradient(subject: Subject) -> Numbers:
    """The gradient of the loss to the state of each step, by how long before the end it is."""

    @jax.jit
    def run(variables, batch):
        slopes, _, real = state_gradients(subject.task, variables, batch, jax.random.key(0))
        return {k: jnp.linalg.norm(v.astype(jnp.float32), axis=-1) for k, v in slopes.items()}, real

    norms, real = jax.device_get(run(subject.variables, subject.batch))
    rows = []
    for layer, found in norms.items():
        curve = before_end(found, real, backward=layer.endswith("backward"))
        rows.append({"layer": layer, "before_end": range(len(curve)), "norm": curve})
    return {"rows": rows}


def attention(subject: Subject) -> Numbers:
    """Where a translator looks in the source as it writes its own (greedy) translation."""
    task, batch = subject.task, {k: subject.batch[k][:SENTENCES] for k in ("inputs", "length")}
    length = batch["inputs"].shape[1] * 3 // 2 + 10

    @jax.jit
    def run(variables, batch):
        written = task.translate(variables, batch, beams=1, alpha=0.0, length=length)
        others = task.others({"targets": written.tokens})
        _, endpoints = task.model.apply(variables, batch["inputs"], batch["length"], **others)
        return written, endpoints["attention"]

    written, weights = jax.device_get(run(subject.variables, batch))
    rows = []
    for i, (source, target) in enumerate(zip(batch["length"], written.lengths, strict=True)):
        source, target = int(source), int(target)
        rows.append(
            {
                "source": _words(subject, batch["inputs"][i, :source]),
                "target": _words(subject, written.tokens[i, :target], "target_vocabulary"),
                "weights": weights[i, :target, :source],
            }
        )
    return {"rows": rows}


def recorded(subject: Subject, shapes: bool = False) -> dict[str, Any]:
    """The endpoints of a recurrent network, every step's gates among them, or their shapes."""
    task, batch = subject.task, subject.batch

    def run(variables, inputs, length, others):
        return task.model.apply(variables, inputs, length, **others, record=True)[1]

    operands = subject.variables, batch["inputs"], batch["length"], task.others(batch)
    return jax.eval_shape(run, *operands) if shapes else jax.jit(run)(*operands)


def _words(subject: Subject, inputs: Any, which: str = "vocabulary") -> list[str]:
    """What stands at each step: the token, or where there are none its number."""
    vocabulary = getattr(subject.dataset, which)
    if vocabulary is None:
        return [str(t + 1) for t in range(len(inputs))]
    return [vocabulary.tokens[int(i)] for i in np.asarray(inputs)]
