"""Flags without effect are mistakes."""

from collections.abc import Mapping

from recattn.errors import ConfigError


def check_unused(what: str, arguments: Mapping[str, object]) -> None:
    """Raise ConfigError where an argument is given (not None) that ``what`` has no use for.

    >>> check_unused("objective 'clicks'", {"positions": None})
    """
    for name, value in arguments.items():
        if value is not None:
            raise ConfigError(f"{name} is {value!r}, but {what} has no use for it: leave it out")
