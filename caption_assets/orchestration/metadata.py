"""What a materialization shows: tables of samples, strips of frames, histograms."""

import base64
import html
from collections.abc import Mapping, Sequence

import dagster as dg

MAX_SAMPLES = 8
MAX_CELL_CHARACTERS = 400
MAX_PICTURE_BYTES = 150_000
"""Pictures live in Dagster's event log: a larger one is left out, with a word."""

HISTOGRAM_WIDTH, HISTOGRAM_HEIGHT = 480, 160
BAR_LABEL, BAR_PITCH = 130, 20


def sample_table(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> dg.TableMetadataValue:
    """Return the first rows as a table; long texts are cut."""
    records = [dg.TableRecord({name: _cell(row.get(name)) for name in columns}) for row in rows[:MAX_SAMPLES]]
    schema = dg.TableSchema(columns=[dg.TableColumn(name=name, type=_type_of(rows, name)) for name in columns])
    return dg.MetadataValue.table(records=records, schema=schema)


def picture(data: bytes, media_type: str, caption: str) -> dg.MarkdownMetadataValue:
    """Return a picture to be shown in the UI, with a line of text under it."""
    if len(data) > MAX_PICTURE_BYTES:
        return dg.MetadataValue.md(f"{caption} (the picture has {len(data):,} bytes, too many to show here)")
    encoded = base64.b64encode(data).decode()
    return dg.MetadataValue.md(f"![{_plain(caption)}](data:{media_type};base64,{encoded})\n\n{_plain(caption)}")


def histogram(values: Sequence[float], unit: str, bins: int = 12) -> dg.MarkdownMetadataValue:
    """Return a histogram of `values` as an SVG picture."""
    if not values:
        return dg.MetadataValue.md("nothing to count")
    low, high = min(values), max(values)
    if low == high:
        return dg.MetadataValue.md(f"every value is {low:g} {unit}")
    width = (high - low) / bins
    counts = [0] * bins
    for value in values:
        counts[min(int((value - low) / width), bins - 1)] += 1
    return picture(_bars(counts).encode(), "image/svg+xml", f"{len(values)} values, {low:g} to {high:g} {unit}")


def bars(counts: Mapping[str, int]) -> dg.MarkdownMetadataValue:
    """Return a bar for each name that was counted, with its number, as an SVG picture."""
    shown = {name: count for name, count in counts.items() if count}
    longest = max(shown.values(), default=1)
    lines = []
    for index, (name, count) in enumerate(shown.items()):
        y, width = index * BAR_PITCH, (HISTOGRAM_WIDTH - 2 * BAR_LABEL) * count / longest
        lines.append(
            f'<text x="{BAR_LABEL - 6}" y="{y + 15}" font-size="12" text-anchor="end">{html.escape(name)}</text>'
            f'<rect x="{BAR_LABEL}" y="{y + 3}" width="{max(width, 1):.1f}" height="{BAR_PITCH - 6}" fill="#4f43dd"/>'
            f'<text x="{BAR_LABEL + width + 6:.1f}" y="{y + 15}" font-size="12">{count}</text>'
        )
    size = f'width="{HISTOGRAM_WIDTH}" height="{BAR_PITCH * max(len(shown), 1)}"'
    drawn = f'<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" {size}>{"".join(lines)}</svg>'
    return picture(drawn.encode(), "image/svg+xml", ", ".join(f"{name} {count}" for name, count in shown.items()))


def stacked_bars(counts: Mapping[str, Mapping[str, int]]) -> dg.MarkdownMetadataValue:
    """Return a column for each thing that was counted in, in order, divided by what was counted, as an SVG picture."""
    names = sorted({name for column in counts.values() for name, count in column.items() if count})
    tallest = max((sum(column.values()) for column in counts.values()), default=0)
    if not tallest:
        return dg.MetadataValue.md("nothing to count")
    step, height = (HISTOGRAM_WIDTH - BAR_LABEL) / len(counts), HISTOGRAM_HEIGHT - 20
    drawn = []
    for index, (title, column) in enumerate(counts.items()):
        bottom = float(HISTOGRAM_HEIGHT)
        for name in names:
            part = height * column.get(name, 0) / tallest
            bottom -= part
            drawn.append(
                f'<rect x="{index * step:.1f}" y="{bottom:.1f}" width="{max(step - 2, 1):.1f}" height="{part:.1f}" '
                f'fill="{_color(names.index(name))}"><title>{html.escape(f"{title}: {name} {column.get(name, 0)}")}'
                "</title></rect>"
            )
    for index, name in enumerate(names):
        x, y = HISTOGRAM_WIDTH - BAR_LABEL + 6, BAR_PITCH * index
        drawn.append(
            f'<rect x="{x}" y="{y + 3}" width="10" height="10" fill="{_color(index)}"/>'
            f'<text x="{x + 16}" y="{y + 13}" font-size="12">{html.escape(name)}</text>'
        )
    size = f'width="{HISTOGRAM_WIDTH}" height="{max(HISTOGRAM_HEIGHT, BAR_PITCH * len(names))}"'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" {size}>{"".join(drawn)}</svg>'
    return picture(svg.encode(), "image/svg+xml", f"{len(counts)} of the latest batches, at most {tallest} in one")


def _color(index: int) -> str:
    return f"hsl({index * 137 % 360} 60% 50%)"  # the golden angle keeps neighbours apart


def _bars(counts: Sequence[int]) -> str:
    step, top = HISTOGRAM_WIDTH / len(counts), max(counts)
    bars = []
    for index, count in enumerate(counts):
        height = (HISTOGRAM_HEIGHT - 20) * count / top
        x, y = index * step, HISTOGRAM_HEIGHT - height
        bars.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{step - 2:.1f}" height="{height:.1f}" fill="#4f43dd"/>')
        if count:
            bars.append(
                f'<text x="{x + step / 2:.1f}" y="{y - 4:.1f}" font-size="11" text-anchor="middle">{count}</text>'
            )
    size = f'width="{HISTOGRAM_WIDTH}" height="{HISTOGRAM_HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" {size}>{"".join(bars)}</svg>'


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
