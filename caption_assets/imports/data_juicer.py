"""Reading Data-Juicer's JSON lines: samples of text and videos, or the captioned samples that its operator makes.

What stands after a video's token is taken for its caption, unless the row is an original sample of an export of ours. A
row that we exported says which windows its captions are of, and which sample it was made from; of any other row the
caption is the video's as a whole.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from caption_assets.export.data_juicer import (
    FORMAT,
    ORIGINAL,
    PROVENANCE_KEY,
    TEXT_KEY,
    VIDEOS_FOLDER,
    VIDEOS_KEY,
    Sample,
    SampleError,
    captions_of,
    references,
)
from caption_assets.ids import digest
from caption_assets.imports.delivery import DeliveredCaption, Delivery, ImportFault, parse_document
from caption_assets.uploads.batches import VIDEO_SUFFIXES

UNKNOWN_MODEL = "data-juicer"
"""Samples do not say which model wrote them."""

SUFFIX = ".jsonl"

MAX_CANDIDATES = 64
"""Of a window: the ledger holds a set of sample indices in 64 bits."""


def read_delivery(path: Path) -> Delivery:
    """Read a file of samples, or the one `.jsonl` in a folder.

    Raises:
        ImportFault: there is no such file, or a folder holds none or several.
    """
    file = _samples_file(path)
    delivery = Delivery(FORMAT)
    seen: dict[int, Sample] = {}
    plain: list[Sample] = []
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                _take(parse_document(line), file, delivery, seen, plain)
            except (ValueError, RecursionError) as fault:
                delivery.problems.append(f"{file.name}, line {number}: {fault}")
    delivery.samples += [*(seen[index] for index in sorted(seen)), *plain]
    return delivery


def _samples_file(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else []
    if len(found) != 1:
        what = ", ".join(each.name for each in found) or "none"
        raise ImportFault(f"{path}: name the file of samples; {SUFFIX} files found there: {what}")
    return found[0]


def _take(row: Any, file: Path, delivery: Delivery, seen: dict[int, Sample], plain: list[Sample]) -> None:
    """Take one row into `delivery`, or raise ValueError and leave it as it was.

    seen: the samples of rows that say which sample they are of. plain: those of the others, which come after them.
    """
    if not isinstance(row, dict) or not isinstance(row.get(TEXT_KEY), str):
        raise SampleError(f"it is no object with a text under {TEXT_KEY!r}")
    named = row.get(VIDEOS_KEY) or []
    if not isinstance(named, list) or not all(isinstance(video, str) for video in named):
        raise SampleError(f"{VIDEOS_KEY!r} is no list of paths")
    provenance = _provenance(row)
    located = [_locate(video, file.parent) for video in named]
    for _, source in located:
        if not source.is_file():
            raise SampleError(f"{source}: no such video")
    paths = tuple(path for path, _ in located)
    columns = {name: value for name, value in row.items() if name not in (TEXT_KEY, VIDEOS_KEY, PROVENANCE_KEY)}
    original = provenance.get("original", row[TEXT_KEY]) if provenance else row[TEXT_KEY]
    sample = Sample(str(original), paths, columns)
    captions = list(_exported_captions(paths, provenance) if provenance else _captions(row, paths))
    if provenance:
        _check_same_sample(int(provenance["sample"]), sample, seen)
    for path, source in located:
        if delivery.videos.setdefault(path, source).resolve() != source.resolve():
            raise SampleError(f"{path}: two videos want this name")
    if provenance:
        seen.setdefault(int(provenance["sample"]), sample)
    else:
        plain.append(sample)
    delivery.captions += captions
    captioned = () if provenance else {caption.path for caption in captions}
    for path, words in zip(paths, references(sample), strict=True):
        if words and path not in captioned:  # words that are taken for a caption did not come with the video
            delivery.originals.setdefault(path, words)


def _provenance(row: Mapping[str, Any]) -> dict[str, Any]:
    text = row.get(PROVENANCE_KEY)
    if text is None:
        return {}
    try:
        found = parse_document(text.encode())
        int(found["sample"])
        return dict(found)
    except _ODD as fault:
        raise _not_ours(fault) from None


_ODD = (TypeError, ValueError, LookupError, AttributeError, OverflowError)
"""What reading a value of another form than the one expected may raise."""


def _not_ours(fault: Exception) -> SampleError:
    what = f"it has no {fault}" if isinstance(fault, KeyError) else str(fault)
    return SampleError(f"{PROVENANCE_KEY!r} is not what an export writes ({what})")


def _check_same_sample(index: int, sample: Sample, seen: Mapping[int, Sample]) -> None:
    """Columns may differ between the rows of a sample: operators write what they measured of a row's text there."""
    other = seen.get(index, sample)
    if (other.text, other.videos) != (sample.text, sample.videos):
        raise SampleError(
            f"another sample {index} came before it ({other.text[:80]!r}): these are rows of two exports; import each "
            "export from a file of its own, into a --batch of its own"
        )


def _captions(row: Mapping[str, Any], paths: tuple[str, ...]) -> Iterator[DeliveredCaption]:
    for path, words in zip(paths, captions_of(row[TEXT_KEY]), strict=True):
        if words:
            yield DeliveredCaption(path, words, UNKNOWN_MODEL)


def _exported_captions(paths: tuple[str, ...], provenance: Mapping[str, Any]) -> list[DeliveredCaption]:
    if provenance.get("row") == ORIGINAL:
        return []
    try:
        rank = int(provenance["candidate"])
        if not 0 <= rank < MAX_CANDIDATES:
            raise ValueError(f"candidate {rank} is none of 0 to {MAX_CANDIDATES - 1}")
        return [
            DeliveredCaption(
                path,
                str(window["caption"]),
                str(window["model"] or UNKNOWN_MODEL),
                (int(window["start_frame"]), int(window["end_frame"])),
                rank,
            )
            for path, windows in zip(paths, provenance["windows"], strict=True)
            for window in windows
        ]
    except _ODD as fault:
        raise _not_ours(fault) from None


def _locate(named: str, folder: Path) -> tuple[str, Path]:
    """Return the path that a video gets below the batch, and where it lies.

    A path below the folder of the samples keeps its form; of any other the name is kept, in a folder of its own.
    """
    if not named.lower().endswith(VIDEO_SUFFIXES):
        raise SampleError(f"{named!r} is no video file name; accepted: {' '.join(VIDEO_SUFFIXES)}")
    below = PurePosixPath(named)
    if below.is_absolute() or ".." in below.parts or any(part.startswith(".") for part in below.parts):
        return f"{digest(str(below.parent))[:8]}/{below.name}", (folder / named)
    parts = below.parts[1:] if below.parts[0] == VIDEOS_FOLDER and len(below.parts) > 1 else below.parts
    return "/".join(parts), folder / named
