"""Patterns over the parameters of a real network."""

import pytest

from research.checks import validate
from research.config import UserError, flatten, override
from research.train.start import check_transfer, variable_shapes
from research.transfer.patterns import is_frozen, rate_of

RESNET = {"model.name": "resnet", "model.hidden": None, "model.depth": 8, "model.width": 4}


@pytest.fixture(scope="module")
def paths(tiny, digits):
    return [p.replace(".", "/") for p in flatten(variable_shapes(tiny(RESNET), digits)["params"])]


def frozen(patterns, paths):
    return {path for path in paths if is_frozen(patterns, path)}


def test_which_parameters_patterns_mean(paths):
    head = {"head/kernel", "head/bias"}
    norms = {p for p in paths if p.endswith(("scale", "bias"))} - head
    assert len(norms) == 14 and len(paths) == 14 + 7 + 2
    assert frozen((), paths) == set()
    assert frozen(("*",), paths) == set(paths)
    assert frozen(("*", "!head"), paths) == set(paths) - head
    assert frozen(("head",), paths) == frozen(("head*",), paths) == head
    assert frozen(("stem",), paths) == {"stem/kernel"}
    assert frozen(("stem*",), paths) == {"stem/kernel", "stem_norm/scale", "stem_norm/bias"}
    assert frozen(("*norm*",), paths) == norms
    block = frozen(("stage2_block1",), paths)
    assert len(block) == 6 and block == {p for p in paths if p.startswith("stage2_block1/")}


def test_the_last_pattern_counts(paths):
    assert "stem/kernel" not in frozen(("stem*", "!stem", "stem_norm"), paths)
    assert frozen(("!head", "*"), paths) == set(paths)
    rates = (("*", 0.1), ("head", 10.0), ("head/bias", 2.0))
    assert [rate_of(rates, p) for p in ("stem/kernel", "head/kernel", "head/bias")] == [0.1, 10, 2]
    assert rate_of((("head", 3.0),), "stem/kernel") == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"transfer.freeze": ("steam",)}, "transfer.freeze: found 'steam'.*'stem'"),
        ({"transfer.freeze": ("*", "!haed")}, "'!haed'.*did you mean 'head'"),
        ({"transfer.rates": (("stage4*", 0.1),)}, "transfer.rates: found 'stage4.*'"),
        ({"transfer.freeze": ("*",)}, "leaves nothing to train"),
    ],
)
def test_patterns_that_cannot_be(tiny, digits, changes, words):
    with pytest.raises(UserError, match=words):
        config = tiny(RESNET | changes)
        check_transfer(config, variable_shapes(config, digits))


@pytest.mark.parametrize("rates", [("stem", 0.1), (("stem", 0),), (("stem", "slow"),), (3,)])
def test_rates_that_cannot_be(tiny, rates):
    with pytest.raises(UserError, match=r"transfer\.rates: found .* expected pairs"):
        validate(override(tiny(), {"transfer.rates": rates}, "test"))
