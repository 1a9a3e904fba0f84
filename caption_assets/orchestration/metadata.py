"""What a materialization shows: tables of samples, pictures, and numbers that Dagster plots over the batches."""

import base64
from collections.abc import Mapping, Sequence
from statistics import median

import dagster as dg

MAX_SAMPLES = 8
MAX_CELL_CHARACTERS = 400
MAX_PICTURE_BYTES = 150_000
"""Pictures live in Dagster's event log: a larger one is left out and its size is shown instead."""


def sample_table(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> dg.TableMetadataValue:
    """Return the first `MAX_SAMPLES` rows as a table; long texts are cut."""
    records = [dg.TableRecord({name: _cell(row.get(name)) for name in columns}) for row in rows[:MAX_SAMPLES]]
    schema = dg.TableSchema(columns=[dg.TableColumn(name=name, type=_type_of(rows, name)) for name in columns])
    return dg.MetadataValue.table(records=records, schema=schema)


def picture(data: bytes, media_type: str, caption: str) -> dg.MarkdownMetadataValue:
    """Return a picture that the UI shows with `caption` under it."""
    if len(data) > MAX_PICTURE_BYTES:
        return dg.MetadataValue.md(f"{_plain(caption)} (the picture is too large to show here: {len(data):,} bytes)")
    encoded = base64.b64encode(data).decode()
    return dg.MetadataValue.md(f"![{_plain(caption)}](data:{media_type};base64,{encoded})\n\n{_plain(caption)}")


def spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """Return the smallest, the median and the largest of `values` under `name`, nothing where there are none.

    Dagster plots each number over the batches on the asset's page.
    """
    if not values:
        return {}
    return {f"{name}, min": min(values), f"{name}, median": median(values), f"{name}, max": max(values)}


def _cell(value: object) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool | int | float):
        return round(value, 3) if isinstance(value, float) else value
    text = str(value)
    return text if len(text) <= MAX_CELL_CHARACTERS else text[: MAX_CELL_CHARACTERS - 1] + "…"


def _type_of(rows: Sequence[Mapping[str, object]], name: str) -> str:
    kinds: dict[type, str] = {bool: "bool", int: "int", float: "float"}
    found = next((row[name] for row in rows if row.get(name) is not None), None)
    return kinds.get(type(found), "string")


def _plain(text: str) -> str:
    return "".join(" " if character in "\n\r[]()" else character for character in text)
