"""Parameters of policies and gates: declared once, listed in settings and docs, checked when they are set."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TypeGuard

from caption_assets.retention.model import ParameterValue


@dataclass(frozen=True)
class Parameter:
    """A setting of a policy or gate: a number within [minimum, maximum], or a `str` out of `choices`.

    `None` is accepted when it is the default, and then means "no limit".
    """

    name: str
    type: type[int] | type[float] | type[str]
    default: ParameterValue
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """The allowed values in words."""
        if self.choices:
            text = ", ".join(self.choices)
        elif self.minimum is not None and self.maximum is not None:
            text = f"{self.minimum} to {self.maximum}"
        else:
            text = f"any {self.type.__name__}"
        return f"{text}, or None" if self.default is None else text

    def _is_number(self, value: object) -> TypeGuard[int | float]:
        if isinstance(value, bool) or self.type is str:
            return False
        return isinstance(value, int) or (self.type is float and isinstance(value, float) and isfinite(value))

    def check(self, value: object) -> ParameterValue:
        """Return `value`; ValueError with the allowed values when it is of another type or out of range."""
        if value is None and self.default is None:
            return None
        if self._is_number(value):
            low = self.minimum is None or value >= self.minimum
            high = self.maximum is None or value <= self.maximum
            if low and high:
                return value
        elif self.type is str and isinstance(value, str) and (not self.choices or value in self.choices):
            return value
        raise ValueError(f"{self.name} is {value!r}; allowed: {self.allowed}{did_you_mean(value, self.choices)}")


def check_parameters(
    owner: str, allowed: Iterable[Parameter], given: Mapping[str, object]
) -> dict[str, ParameterValue]:
    """Return the value of every allowed parameter: the given one, checked, or else its default.

    Raises ValueError for a name that `owner` does not have and for a value out of range.
    """
    by_name = {parameter.name: parameter for parameter in allowed}
    for name in given:
        if name not in by_name:
            names = f"allowed: {', '.join(by_name)}" if by_name else "it has none"
            raise ValueError(f"{owner} has no parameter {name!r}; {names}{did_you_mean(name, by_name)}")
    return {
        name: parameter.check(given[name]) if name in given else parameter.default
        for name, parameter in by_name.items()
    }


def did_you_mean(given: object, names: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the closest of `names`, or "" when none is close."""
    close = difflib.get_close_matches(str(given).lower(), list(names), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
