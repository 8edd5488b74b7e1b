"""What the arms of an experiment cross: axes of numbers, and groups of names."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

from research.report.wording import short

COLUMNS = ("n", "seed", "status", "steps", "parameters")


@dataclasses.dataclass(frozen=True)
class Design:
    """The factors of an experiment; one that declares none has its arms for a factor.

    An *axis* is a factor whose levels are numbers, such as depth or learning rate; a *group* is one
    combination of the levels of all others. Every arm is one group at one place on the axes.

    Attributes:
        factors: field → arm → its level.
        baseline: the arm that the others are compared with.
        within: the factors of names at whose levels, too, arms are compared only with their like.
    """

    factors: dict[str, dict[str, Any]]
    baseline: str | None
    within: tuple[str, ...] = ()

    @classmethod
    def of(cls, record: dict[str, Any]) -> "Design":
        """Read it from experiment.json or summary.json.

        Factors that do not tell every arm from every other are none: an earlier launch may have
        run arms of which they say nothing.
        """
        arms, declared = list(record["arms"]), record.get("factors") or {}
        factors = {
            field: _levels({arm: levels[arm] for arm in arms if arm in levels})
            for field, levels in declared.items()
        }
        cells = {tuple(levels.get(arm) for levels in factors.values()) for arm in arms}
        known = all(len(levels) == len(arms) for levels in factors.values())
        if not (factors and known and len(cells) == len(arms)):
            factors = {"arm": {arm: arm for arm in arms}}
        within = tuple(field for field in record.get("within", ()) if field in factors)
        return cls(factors, record.get("baseline"), within)

    @functools.cached_property
    def arms(self) -> list[str]:
        """Every arm."""
        return list(next(iter(self.factors.values())))

    @functools.cached_property
    def axes(self) -> list[str]:
        """The fields whose levels are all numbers."""
        return [f for f, levels in self.factors.items() if all(map(_is_number, levels.values()))]

    @functools.cached_property
    def names(self) -> list[str]:
        """The other fields."""
        return [field for field in self.factors if field not in self.axes]

    def levels(self, field: str) -> list[Any]:
        """The levels of a field: numbers in order; names as declared, the baseline's first."""
        found = list(dict.fromkeys(self.factors[field].values()))
        if field in self.axes:
            return sorted(found)
        first = self.factors[field].get(self.baseline)
        return sorted(found, key=lambda level: level != first)

    def place(self, arm: str) -> tuple[float, ...]:
        """Where an arm stands on the axes."""
        return tuple(self.factors[field][arm] for field in self.axes)

    def group(self, arm: str) -> tuple[str, ...]:
        """The group that an arm is of."""
        return tuple(self.factors[field][arm] for field in self.names)

    @functools.cached_property
    def groups(self) -> list[tuple[str, ...]]:
        """Every group, in order of the arms."""
        return list(dict.fromkeys(map(self.group, self.arms)))

    @property
    def base(self) -> tuple[str, ...] | None:
        """The baseline's group, None where it is none of the arms."""
        return self.group(self.baseline) if self.baseline in self.arms else None

    def find(self, group: tuple[str, ...], place: tuple[float, ...]) -> str | None:
        """The arm of that group at that place, None where there is none."""
        return self._arms.get((group, place))

    def reference(self, arm: str) -> str | None:
        """What an arm is compared with: the baseline's group at the same place on the axes, and at
        the arm's own levels of the factors `within`.

        Where all factors are axes there are no groups, and it is the baseline itself.
        """
        if self.base is None:
            return None
        levels = zip(self.names, self.base, self.group(arm), strict=True)
        like = tuple(own if field in self.within else base for field, base, own in levels)
        found = self.find(like, self.place(arm)) if self.names else self.baseline
        return None if found == arm else found

    @property
    def base_name(self) -> str:
        """The name of what arms are compared with."""
        if not self.names:
            return self.baseline
        levels = zip(self.names, self.base, strict=True)
        return spell(tuple(level for field, level in levels if field not in self.within))

    def label(self, field: str) -> str:
        """The name of a field for a reader; the whole of it where the short one is not unique, or
        is that of a column of its own in the tables.
        """
        taken = [*COLUMNS, *map(short, self.factors)].count(short(field)) > 1
        return field if taken else short(field)

    def describe(self, levels: Iterable[Any], fields: Iterable[str] | None = None) -> str:
        """Name levels with their fields, a group's if no `fields` are given: "norm: batch"."""
        pairs = zip(self.names if fields is None else fields, levels, strict=True)
        return ", ".join(f"{self.label(field)}: {level}" for field, level in pairs)

    @functools.cached_property
    def _arms(self) -> dict[tuple, str]:
        return {(self.group(arm), self.place(arm)): arm for arm in self.arms}


def spell(group: tuple[str, ...]) -> str:
    """Name a group: "batch · identity"."""
    return " · ".join(group)


def _levels(values: dict[str, Any]) -> dict[str, Any]:
    """Numbers where all are; names of them otherwise."""
    if all(map(_is_number, values.values())):
        return values
    return {arm: _name(value) for arm, value in values.items()}


def _name(value: Any) -> str:
    """Name a level that is no number: "batch", "*, !head"; what is empty is "none"."""
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text or "none"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
