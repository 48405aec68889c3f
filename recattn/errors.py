"""The errors recattn raises for mistakes that a user can mend.

    RecattnError
    ├── DataError         a file or a table is not what was asked for: names the file, line and column
    │   └── UnknownIdError    a raw user or item id that the vocabulary does not hold
    ├── ArtefactError     a saved model is incomplete, damaged or from an incompatible version
    └── ConfigError       an argument is outside of what is allowed

Every message names the argument or file, the value that was given and what is allowed. The command line
prints the message alone and exits with status 2.
"""


class RecattnError(Exception):
    """Base of every error that recattn raises on purpose."""


class DataError(RecattnError):
    """A file or table cannot be read as interactions, or failed its check."""


class UnknownIdError(DataError):
    """A raw id is not in the vocabulary."""


class ArtefactError(RecattnError):
    """A saved model cannot be loaded."""


class ConfigError(RecattnError, ValueError):
    """An argument's value, or a combination of arguments, is not allowed."""
