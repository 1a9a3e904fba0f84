"""Errors in settings, as sentences: the name, what is wrong, what is allowed, the value that was given."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

RANGE_ERRORS = ("greater_than_equal", "greater_than", "less_than_equal", "less_than", "string_too_short")

KINDS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    str | None: "a text or null",
    str | list[str]: "a text or a list of texts",
    list[str]: "a list of texts",
    list[int]: "a list of whole numbers",
    dict[str, float]: "a table of names and numbers",
    dict[str, Any]: "a table of names and values",
}
"""What messages call the types of settings."""


class SettingsError(ValueError):
    """A setting has an unknown name or a value outside its range. The message names the allowed ones."""


def explain(error: Any, fields: Mapping[str, FieldInfo]) -> str:
    """Return one error of a pydantic `ValidationError` as a sentence.

    fields: every setting that could have been meant, by the name that users write.
    """
    name = ".".join(str(part) for part in error["loc"] if part not in ("str", "list[str]"))
    if error["type"] == "extra_forbidden":
        return f"{name}: no such setting.{suggestion(name, fields)}"
    if error["type"] == "value_error":
        message = str(error["msg"]).removeprefix("Value error, ")
        return f"{name}: {message}" if name else message
    if name not in fields:
        return f"{name}: {error['msg']} (it is {error['input']!r})"
    annotation = fields[name].annotation
    if get_origin(annotation) is Literal:
        return f"{name}: {not_one_of(error['input'], get_args(annotation))}"
    limits = _limits(fields[name])
    problem = (
        "out of range" if error["type"] in RANGE_ERRORS else f"must be {KINDS.get(annotation, 'of the right kind')}"
    )
    return f"{name}: {problem}{f'; allowed: {limits}' if limits else ''} (it is {error['input']!r})"


def not_one_of(value: object, allowed: Iterable[str]) -> str:
    """Return the sentence for a value that is not one of `allowed`."""
    names = tuple(allowed)
    return f"unknown value {value!r}; allowed: {', '.join(names)}.{suggestion(str(value), names)}"


def suggestion(written: str, known: Iterable[str]) -> str:
    """Return the closest of the `known` names, or all of them, as a sentence with a space before it.

    A name without its group is enough to be close: `widow_size` suggests `window.window_size`.
    """
    names = {key: name for name in reversed(list(known)) for key in (name.rpartition(".")[2], name)}
    close = difflib.get_close_matches(written, names, n=1)
    return f" Did you mean {names[close[0]]}?" if close else f" Known: {', '.join(dict.fromkeys(known))}"


def _limits(field: FieldInfo) -> str:
    """Return the allowed range of a field in words, or "" where it has none."""
    names = ("ge", "gt", "le", "min_length")
    limit = {name: getattr(rule, name) for rule in field.metadata for name in names if hasattr(rule, name)}
    if "min_length" in limit:
        return "any text but an empty one"
    low = f"above {limit['gt']}" if "gt" in limit else str(limit["ge"]) if "ge" in limit else ""
    if "le" in limit:
        return f"{low}, up to {limit['le']}" if "gt" in limit else f"{low} to {limit['le']}"
    return f"{low} or more" if "ge" in limit else low
