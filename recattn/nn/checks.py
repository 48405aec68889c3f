"""Checks of constructor arguments, shared by the layers: a wrong one raises ConfigError and is named."""

import math
from collections.abc import Sequence

from recattn.errors import ConfigError


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise ConfigError unless value is one of the choices.

    >>> check_choice("scale", "none", ("none", "sqrt_length"))
    """
    if value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def check_count(name: str, value: int, *, least: int = 1) -> None:
    """Raise ConfigError unless value is an integer of at least ``least``.

    >>> check_count("num_heads", 2)
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} must be an integer >= {least}, got {value!r}")


def check_positive(name: str, value: float) -> None:
    """Raise ConfigError unless value is a finite number above 0.

    >>> check_positive("temperature", 0.5)
    """
    if not isinstance(value, int | float) or not (value > 0 and math.isfinite(value)):
        raise ConfigError(f"{name} must be a finite number > 0, got {value!r}")


def check_fraction(name: str, value: float) -> None:
    """Raise ConfigError unless 0 <= value < 1.

    >>> check_fraction("dropout", 0.1)
    """
    if not isinstance(value, int | float) or not 0 <= value < 1:
        raise ConfigError(f"{name} must be in [0, 1), got {value!r}")
