"""Workdirs of factorial designs, as training leaves them."""

from synthetic_workdir import write_workdir

from research.report.design import Design


def factors_of(arms, fields):
    """What experiment.json records of the fields that `arms` cross."""
    return {field: {arm: changes[field] for arm, changes in arms.items()} for field in fields}


def write_factorial(workdir, arms, fields, baseline, **settings):
    """A workdir whose arms cross `fields`."""
    factors = factors_of(arms, fields)
    assert (
        Design.of({"arms": list(arms), "baseline": baseline, "factors": factors}).base is not None
    )
    settings = {"diverged": (), "unfinished": (), "seeds": range(3), "steps": 40} | settings
    return write_workdir(workdir, arms=arms, factors=factors, baseline=baseline, **settings)
