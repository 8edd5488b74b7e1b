"""The optimiser that a config describes, as one optax chain.

    penalties → freezing → clip → direction → decoupled decay → schedule → learning rate → freezing

The learning rate and the clipping threshold are runtime values in the optimiser's state, so that
arms which differ only there share one compiled program.
"""

from collections import Counter
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from research.transfer.finetune import fine_tuning


def make_optimizer(
    config: ConfigDict,
    steps: int,
    transfer: ConfigDict | None = None,
    layers: Sequence[str] = (),
) -> optax.GradientTransformation:
    """Return the optimiser for `config.optimizer` over a run of `steps` steps.

    `transfer`, with the paths of the network's `layers` in order, says what is frozen or learns at
    a rate of its own; see `research.transfer.finetune`.

    Its state answers `optax.tree.get(state, name)` for `learning_rate` and `clip_threshold` (set
    them with `optax.tree.set`; they start at the config's values) and for `gradient_norm` and
    `gradient_norm_clipped`, the global norms on either side of the clipping at the last step.
    """

    before, last = fine_tuning(transfer, layers) if transfer else (optax.identity(),) * 2

    def chain(learning_rate, clip_threshold):
        return optax.chain(
            _penalties(config),
            before,
            optax.snapshot("gradient_norm", optax.tree.norm),
            _clip(config.clip.kind, clip_threshold),
            optax.snapshot("gradient_norm_clipped", optax.tree.norm),
            _direction(config),
            _decay(config),
            optax.scale_by_schedule(schedule_shape(config.schedule, steps)),
            optax.scale_by_learning_rate(learning_rate),
            last,
        )

    return optax.inject_hyperparams(chain)(**hyperparams(config))


def hyperparams(config: ConfigDict) -> dict[str, float]:
    """Return the runtime values of `config.optimizer` by their names in the optimiser's state."""
    return {"learning_rate": config.learning_rate, "clip_threshold": config.clip.threshold}


def schedule_shape(config: ConfigDict, steps: int) -> optax.Schedule:
    """Return the learning rate's course over `steps` steps, as a factor of its peak.

    `warmup` is the share of the steps over which it first rises linearly from 0. `one_cycle`
    (Smith 2018) rises and falls by itself over the whole run, with cosine halves; its warm-up share
    is `warmup`, or 0.3 where that is 0.
    """
    warmup = round(config.warmup * steps)
    rest = max(steps - warmup, 1)
    if config.name == "one_cycle":
        return optax.cosine_onecycle_schedule(max(steps, 1), 1.0, pct_start=config.warmup or 0.3)
    drops = Counter(round(share * steps) - warmup for share in config.boundaries)
    after = {
        "constant": lambda: optax.constant_schedule(1.0),
        "cosine": lambda: optax.cosine_decay_schedule(1.0, rest),
        "linear": lambda: optax.linear_schedule(1.0, 0.0, rest),
        "step": lambda: optax.piecewise_constant_schedule(
            1.0, {drop: config.factor**times for drop, times in drops.items()}
        ),
    }[config.name]()
    if not warmup:
        return after
    # The first step counts as one, so that it is not lost to a learning rate of 0.
    rise = optax.linear_schedule(1 / warmup, 1.0, max(warmup - 1, 1))
    return optax.join_schedules([rise, after], [warmup])


def _is_kernel(params):
    """Norm scales and biases, which are vectors and scalars, are spared decay and penalties."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def _penalties(config: ConfigDict) -> optax.GradientTransformation:
    """Add the gradient of `l1·Σ|w| + l2/2·Σw²`; what is clipped is the penalised loss's."""
    mask = None if config.decay_norm_and_bias else _is_kernel
    parts = []
    if config.l2:
        parts.append(optax.add_decayed_weights(config.l2, mask))
    if config.l1:
        sign = optax.stateless(
            lambda updates, params: jax.tree.map(
                lambda u, p: u + config.l1 * jnp.sign(p), updates, params
            )
        )
        parts.append(optax.masked(sign, mask) if mask else sign)
    return optax.chain(*parts) if parts else optax.identity()


def _clip(kind: str, threshold) -> optax.GradientTransformation:
    """`value` clips each entry, `global_norm` the whole (Pascanu 2013), `adaptive` each unit by its
    own weights' norm (Brock 2021)."""
    if kind == "none":
        return optax.identity()
    make = {
        "value": optax.clip,
        "global_norm": optax.clip_by_global_norm,
        "adaptive": optax.adaptive_grad_clip,
    }[kind]
    return make(threshold)


def _direction(config: ConfigDict) -> optax.GradientTransformation:
    momentum = (
        optax.trace(config.momentum, config.nesterov) if config.momentum else optax.identity()
    )
    if config.name == "sgd":
        return momentum
    if config.name == "rmsprop":
        return optax.chain(optax.scale_by_rms(config.b2, config.eps), momentum)
    return optax.scale_by_adam(config.b1, config.b2, config.eps, nesterov=config.nesterov)


def _decay(config: ConfigDict) -> optax.GradientTransformation:
    mask = None if config.decay_norm_and_bias else _is_kernel
    if config.weight_decay:
        return optax.add_decayed_weights(config.weight_decay, mask)
    return optax.identity()
