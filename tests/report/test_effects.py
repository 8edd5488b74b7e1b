"""Effects against closed forms and planted values."""

import itertools

import numpy as np
import pytest
from factorial_workdir import factors_of
from scipy.stats import t as student
from scipy.stats import ttest_ind

from research.experiment import cross, levels
from research.report.design import Design
from research.report.effects import effects

ARMS = cross(
    levels("model.norm", "none", "batch", "group"),
    levels("model.skip", "none", "identity"),
    levels("optimizer.clip.kind", "none", "global_norm"),
)
FIELDS = ("model.norm", "model.skip", "optimizer.clip.kind")


def make_design(arms=ARMS, fields=FIELDS, baseline="none-none-none"):
    return Design.of(
        {"arms": list(arms), "baseline": baseline, "factors": factors_of(arms, fields)}
    )


def draw(means, n=6, spread=0.02, seed=0):
    rng = np.random.default_rng(seed)
    return {
        arm: {str(i): float(v) for i, v in enumerate(rng.normal(mean, spread * (1 + k), n))}
        for k, (arm, mean) in enumerate(means.items())
    }


def by_name(found):
    return {" × ".join(e["levels"].values()): e for e in found}


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(1)
    return draw({arm: rng.uniform(0.2, 0.9) for arm in ARMS})


def test_every_effect_is_there_once_in_order(sample):
    found = effects(sample, make_design())
    assert [len(e["levels"]) for e in found] == [1] * 4 + [2] * 5 + [3] * 2
    assert len(by_name(found)) == 11


def closed_form(sample, weights):
    """A contrast of independent means and its interval, after Welch and Satterthwaite."""
    mean = sum(w * np.mean(list(sample[arm].values())) for arm, w in weights.items())
    parts = {
        arm: w**2 * np.var(list(sample[arm].values()), ddof=1) / len(sample[arm])
        for arm, w in weights.items()
    }
    variance = sum(parts.values())
    freedom = variance**2 / sum(v**2 / (len(sample[arm]) - 1) for arm, v in parts.items())
    half = student.ppf(0.975, freedom) * np.sqrt(variance)
    return mean, [mean - half, mean + half]


def check(found, sample, weights):
    mean, interval = closed_form(sample, weights)
    assert found["mean"] == pytest.approx(mean, abs=1e-12)
    assert found["ci95"] == pytest.approx(interval, abs=1e-10)


def test_a_main_effect_is_a_difference_of_means_over_the_other_factors(sample):
    effect = by_name(effects(sample, make_design()))["batch"]
    others = list(itertools.product(("none", "identity"), ("none", "global_norm")))
    weights = {f"batch-{s}-{c}": 1 / 4 for s, c in others}
    weights |= {f"none-{s}-{c}": -1 / 4 for s, c in others}
    check(effect, sample, weights)
    check(effect["at_baseline"], sample, {"batch-none-none": 1, "none-none-none": -1})


def test_a_difference_of_two_cells_is_welchs_t_test(sample):
    effect = by_name(effects(sample, make_design()))["identity"]["at_baseline"]
    a, b = (list(sample[arm].values()) for arm in ("none-identity-none", "none-none-none"))
    test = ttest_ind(a, b, equal_var=False)
    assert effect["ci95"] == pytest.approx(list(test.confidence_interval()), abs=1e-10)


def test_an_interaction_is_a_difference_of_differences(sample):
    found = by_name(effects(sample, make_design()))
    signs = {("group", "identity"): 1, ("none", "identity"): -1, ("group", "none"): -1,
             ("none", "none"): 1}  # fmt: skip
    weights = {
        f"{n}-{s}-{c}": sign / 2 for (n, s), sign in signs.items() for c in ("none", "global_norm")
    }
    check(found["group × identity"], sample, weights)
    check(
        found["group × identity"]["at_baseline"],
        sample,
        {f"{n}-{s}-none": sign for (n, s), sign in signs.items()},
    )
    three = {
        f"{n}-{s}-{c}": sign * (1 if c == "global_norm" else -1)
        for (n, s), sign in signs.items()
        for c in ("none", "global_norm")
    }
    triple = found["group × identity × global_norm"]
    check(triple, sample, three)
    check(triple["at_baseline"], sample, three)  # nothing is left to average over


def test_planted_effects_come_out_and_absent_ones_do_not():
    def mean(norm, skip, clip):
        return 0.3 + 0.4 * (norm == "batch") + 0.2 * (skip == "identity" and clip != "none")

    means = {"-".join(k): mean(*k) for k in itertools.product(
        ("none", "batch", "group"), ("none", "identity"), ("none", "global_norm"))}  # fmt: skip
    found = by_name(effects(draw(means, n=20, spread=0.001), make_design()))
    assert found["batch"]["mean"] == pytest.approx(0.4, abs=0.005)
    assert found["batch"]["p_holm"] < 1e-6
    assert found["identity"]["mean"] == pytest.approx(0.1, abs=0.005)
    assert found["identity"]["at_baseline"]["mean"] == pytest.approx(0, abs=0.005)
    assert found["identity × global_norm"]["mean"] == pytest.approx(0.2, abs=0.005)
    assert found["group"]["ci95"][0] < 0 < found["group"]["ci95"][1]


@pytest.mark.parametrize("seeds", [3, 8])
@pytest.mark.parametrize("noisy", [0, 1])
def test_intervals_cover_at_their_rate_though_cells_differ_in_variance(seeds, noisy):
    """`identity` at the baseline rests on the first two cells of four, of which one may be noisy:
    a pooled variance would cover always or, with the degrees of freedom of all cells, too rarely.
    """
    arms = cross(levels("model.norm", "none", "batch"), levels("model.skip", "none", "identity"))
    design = make_design(arms, FIELDS[:2], "none-none")
    spreads = ((0.01, 0.01, 0.3, 0.3), (0.01, 0.3, 0.01, 0.01))[noisy]
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        sample = {
            arm: {str(i): float(v) for i, v in enumerate(rng.normal(0.5, spread, seeds))}
            for arm, spread in zip(arms, spreads, strict=True)
        }
        low, high = by_name(effects(sample, design))["identity"]["at_baseline"]["ci95"]
        inside += low < 0 < high
    assert 0.92 < inside / 400 < 0.98


def test_cells_that_do_not_vary_have_an_effect_but_no_test():
    sample = {arm: {"0": 0.5, "1": 0.5} for arm in ARMS} | {"batch-none-none": {"0": 0.7, "1": 0.7}}
    effect = by_name(effects(sample, make_design()))["batch"]
    assert effect["mean"] == pytest.approx(0.05)
    assert effect["ci95"] is effect["p"] is effect["p_holm"] is None


def test_there_are_none_where_a_cell_is_short_or_the_design_has_an_axis(sample):
    missing = {arm: own for arm, own in sample.items() if arm != "group-identity-none"}
    assert effects(missing, make_design()) is None
    one = sample | {"group-identity-none": {"0": 0.5, "1": None}}
    assert effects(one, make_design()) is None
    norms = levels("model.norm", "none", "batch")
    assert effects(sample, make_design(norms, FIELDS[:1], "none")) is None
    deep = cross(norms, levels("model.depth", 8, 20, prefix="d"))
    values = draw(dict.fromkeys(deep, 0.5))
    assert effects(values, make_design(deep, ("model.norm", "model.depth"), "none-d8")) is None
