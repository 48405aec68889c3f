"""Checks of constructor arguments, shared by the layers: a wrong one raises ConfigError and is named."""

import math
import operator
from collections.abc import Sequence
from typing import SupportsIndex

from recattn.errors import ConfigError


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise ConfigError unless value is one of the choices.

    >>> check_choice("scale", "none", ("none", "sqrt_length"))
    """
    if value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def whole(value: object) -> int | None:
    """The integer that the value is, numpy's included; None for anything else, True and False too.

    >>> whole(3), whole(3.0), whole(True)
    (3, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        return None
    try:
        return operator.index(value)
    except TypeError:  # numpy's truth values say that they are integers, and are not
        return None


def check_count(name: str, value: int, *, least: int = 1) -> None:
    """Raise ConfigError unless value is an integer of at least ``least``.

    >>> check_count("num_heads", 2)
    """
    number = whole(value)
    if number is None or number < least:
        raise ConfigError(f"{name} must be an integer >= {least}, got {value!r}")


def check_positive(name: str, value: float) -> None:
    """Raise ConfigError unless value is a finite number above 0.

    >>> check_positive("temperature", 0.5)
    """
    if not isinstance(value, int | float) or not (value > 0 and math.isfinite(value)):
        raise ConfigError(f"{name} must be a finite number > 0, got {value!r}")


def check_share(name: str, value: float) -> None:
    """Raise ConfigError unless 0 <= value <= 1.

    >>> check_share("calibration", 1.0)
    """
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigError(f"{name} must be in [0, 1], got {value!r}")


def check_fraction(name: str, value: float) -> None:
    """Raise ConfigError unless 0 <= value < 1.

    >>> check_fraction("dropout", 0.1)
    """
    if not isinstance(value, int | float) or not 0 <= value < 1:
        raise ConfigError(f"{name} must be in [0, 1), got {value!r}")
