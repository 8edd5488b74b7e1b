"""Factors: axes, groups, and what an arm is compared with."""

import pytest
from factorial_workdir import factors_of

from research.experiment import cross, levels
from research.report.design import Design, spell

ARMS = cross(
    levels("model.norm", "batch", "none"),
    levels("model.skip", "identity", "none"),
    levels("model.depth", 20, 8, prefix="d"),
)
FIELDS = ("model.norm", "model.skip", "model.depth")


@pytest.fixture
def design():
    record = {"arms": list(ARMS), "baseline": "none-none-d8", "factors": factors_of(ARMS, FIELDS)}
    return Design.of(record)


def test_numbers_make_axes_and_names_make_groups(design):
    assert design.axes == ["model.depth"] and design.names == ["model.norm", "model.skip"]
    assert design.levels("model.depth") == [8, 20]
    assert design.levels("model.norm") == ["none", "batch"]  # the baseline's first
    assert design.groups[0] == ("batch", "identity") and len(design.groups) == 4
    assert spell(design.groups[0]) == "batch · identity"
    assert design.label("model.depth") == "depth"


def test_the_reference_is_the_baselines_group_at_the_same_place(design):
    assert design.reference("batch-identity-d20") == "none-none-d20"
    assert design.reference("none-identity-d8") == "none-none-d8"
    assert design.reference("none-none-d20") is None
    assert design.find(("batch", "none"), (8,)) == "batch-none-d8"
    assert design.find(("batch", "none"), (32,)) is None


def test_without_factors_the_arms_are_the_groups():
    design = Design.of({"arms": ["a", "b"], "baseline": "a"})
    assert design.axes == [] and design.groups == [("a",), ("b",)] and design.names == ["arm"]
    assert design.reference("b") == "a" and design.reference("a") is None
    assert Design.of({"arms": ["b"], "baseline": "a"}).reference("b") is None


def test_arms_that_were_not_run_are_no_part_of_it():
    few = [arm for arm in ARMS if arm.endswith("d8")]
    design = Design.of({"arms": few, "baseline": None, "factors": factors_of(ARMS, FIELDS)})
    assert design.arms == few and design.levels("model.depth") == [8] and design.base is None


def test_factors_that_do_not_tell_the_arms_apart_are_none():
    """As where an earlier launch ran other arms, or the arms of an older experiment.json."""
    for factors in ({"model.depth": {"a": 8}}, {"model.depth": {"a": 8, "b": 8}}, {}, None):
        design = Design.of({"arms": ["a", "b"], "baseline": "a", "factors": factors})
        assert design.names == ["arm"] and design.reference("b") == "a", factors


def test_where_all_factors_are_axes_the_baseline_itself_is_the_reference():
    arms = cross(levels("model.depth", 8, 20, prefix="d"), levels("optimizer.momentum", 0.0, 0.9))
    factors = factors_of(arms, ("model.depth", "optimizer.momentum"))
    design = Design.of({"arms": list(arms), "baseline": "d8-0.0", "factors": factors})
    assert design.names == [] and design.base_name == "d8-0.0"
    assert design.reference("d20-0.9") == "d8-0.0" and design.reference("d8-0.0") is None


def test_levels_that_are_not_all_numbers_are_names():
    factors = {"model.depth": {"a": None, "b": 20}, "model.hidden": {"a": [4], "b": [8, 8]}}
    design = Design.of({"arms": ["a", "b"], "baseline": "a", "factors": factors})
    assert design.axes == [] and design.groups == [("None", "4"), ("20", "8, 8")]


def test_a_name_that_the_tables_have_a_column_of_is_written_out():
    assert Design({"train.steps": {"a": 20}}, "a").label("train.steps") == "train.steps"


def test_a_short_name_that_two_fields_share_is_written_out():
    factors = {"optimizer.name": {"a": "sgd"}, "optimizer.schedule.name": {"a": "cosine"}}
    assert Design(factors, "a").label("optimizer.name") == "optimizer"
    factors = {"model.name": {"a": "x"}, "other.model.name": {"a": "y"}}
    assert Design(factors, "a").label("model.name") == "model.name"


def test_lists_and_what_is_empty_have_names():
    field = {"a": [], "b": ["*", "!head"], "c": "", "d": None, "e": ["*"]}
    other = {"a": 1, "b": 1, "c": 2, "d": 2, "e": 2}
    record = {"arms": list("abcde"), "factors": {"transfer.freeze": field, "model.depth": other}}
    design = Design.of(record)
    assert design.groups == [("none",), ("*, !head",), ("None",), ("*",)]


def test_arms_are_compared_within_levels():
    """Of a factor of names, as always at a place on the axes."""
    record = {"arms": list(ARMS), "baseline": "none-none-d8", "factors": factors_of(ARMS, FIELDS)}
    design = Design.of(record | {"within": ["model.norm"]})
    assert design.reference("batch-identity-d20") == "batch-none-d20"
    assert design.reference("none-identity-d8") == "none-none-d8"
    assert design.reference("batch-none-d20") is None
    assert design.base_name == "none" and Design.of(record).base_name == "none · none"
