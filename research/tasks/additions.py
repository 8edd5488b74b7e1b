"""What tasks add to the variables of the models that they train."""

from typing import Any

import jax

from research.compression.calibration import RANGES

# Among the parameters.
DISCRIMINATOR = "domain_head"  # see `domain_adversarial`
REGRESSOR = "hint_regressor"  # see `distillation`
# Collections.
SCHEDULE = "schedule"  # the steps taken, see `domain_adversarial` and `translation`
CARRY = "carry"  # the state in which each row of a batch leaves the model, see `language_model`


def of_model(variables: dict[str, Any]) -> dict[str, Any]:
    """Return the variables without those that tasks add, and without a quantised model's ranges."""
    added = (DISCRIMINATOR, REGRESSOR)
    params = {k: v for k, v in variables["params"].items() if k not in added}
    own = {k: v for k, v in variables.items() if k not in (SCHEDULE, CARRY, RANGES)}
    return own | {"params": params}


def model_size(params: dict[str, Any]) -> int:
    """Return how many parameters a model has, without those that tasks add."""
    return sum(p.size for p in jax.tree.leaves(of_model({"params": params})))
