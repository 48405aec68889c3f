"""The flags that say what the columns of a click table are called."""

from typing import Any

from recattn.data.click_tables import ClickColumns


def click_columns(
    *,
    user_column: str | None,
    item_column: str | None,
    label_column: str | None,
    history_column: str | None,
    history_separator: str | None,
    context_columns: str | None,
    ignored_columns: str | None,
) -> ClickColumns:
    """The columns, None being the default of `ClickColumns`; several names are separated by commas."""
    columns: dict[str, Any] = {
        "user": user_column,
        "item": item_column,
        "label": label_column,
        "history": history_column,
        "separator": history_separator,
        "context": _names(context_columns),
        "ignored": _names(ignored_columns),
    }
    return ClickColumns(**{name: value for name, value in columns.items() if value is not None})


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]
