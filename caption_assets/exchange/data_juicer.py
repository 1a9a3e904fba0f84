"""Data-Juicer's layout: JSON lines of samples, a `text` with special tokens and the `videos` that the tokens stand for.

A sample is split into chunks by the end-of-chunk token; the k-th video token of its text stands for the k-th entry of
`videos`. As Data-Juicer's captioning operator documents it, a captioned sample keeps of each chunk its special tokens,
in order, with the caption right after the token of its video; chunks without a video are dropped.

A batch of uploaded files is a sample per file, whose text is the original caption. Batches that were imported have the
samples that they came with. Paths of videos are relative to the file of samples, as Data-Juicer resolves them.

When a file is read, what stands after a video's token is taken for its caption, unless the row is an original sample of
one of our exports. A row that we exported says which windows its captions are of, and which sample it was made from; of
any other row the caption is that of the whole video.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from caption_assets.exchange.delivery import (
    VIDEO,
    DeliveredCaption,
    Delivery,
    ImportFault,
    Sample,
    SampleError,
    parse_document,
)
from caption_assets.exchange.folder import place_file, write_folder
from caption_assets.exchange.selection import Exported, ExportOptions, is_chosen, shown_paths
from caption_assets.exchange.table import TableRow, read_table
from caption_assets.ids import digest
from caption_assets.ledger.captions import BatchHistory, current_uploads, hidden_frames, standing_takedowns
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import SampleRow
from caption_assets.ledger.upkeep import read_history
from caption_assets.root import RootFolder
from caption_assets.uploads.batches import VIDEO_SUFFIXES

FORMAT = "data-juicer"
SAMPLES_FILE = "samples.jsonl"
VIDEOS_FOLDER = "videos"

AUDIO, IMAGE, EOC = "<__dj__audio>", "<__dj__image>", "<|__dj__eoc|>"
TOKENS = re.compile("|".join(re.escape(token) for token in (VIDEO, AUDIO, IMAGE, EOC)))

TEXT_KEY, VIDEOS_KEY = "text", "videos"
PROVENANCE_KEY = "caption_assets"
"""A column of ours: JSON as a text, so that every reader of tables takes it, whatever stands in it."""

ORIGINAL, CAPTIONED = "original", "captioned"


@dataclass(frozen=True)
class WindowCaptions:
    """The kept captions of a window of a video, the best first."""

    start_frame: int
    end_frame: int
    captions: tuple[str, ...]
    model: str | None = None


def sample_of_file(path: str, original: str | None) -> Sample:
    """Return the sample that an uploaded file is."""
    return Sample(f"{VIDEO} {without_tokens(original)} {EOC}" if original else f"{VIDEO} {EOC}", (path,))


def without_tokens(text: str) -> str:
    """Return `text` without special tokens, which would stand for videos that are not there."""
    return " ".join(part for each in TOKENS.split(text) if (part := each.strip()))


def chunks(text: str) -> list[str]:
    """Return the chunks of a text, without their end-of-chunk tokens; blank ones are left out."""
    return [chunk for chunk in text.split(EOC) if chunk.strip()]


def references(sample: Sample) -> list[str]:
    """Return for each video the words of its chunk, as Data-Juicer compares captions with them."""
    return [TOKENS.sub("", chunk).strip() for chunk in chunks(sample.text) for _ in range(chunk.count(VIDEO))]


def captioned_text(text: str, captions: Sequence[str]) -> str:
    """Return the text of the captioned sample.

    captions: one for each video token, in order; an empty one leaves its token bare.
    """
    waiting = iter(captions)
    made = []
    for chunk in chunks(text):
        if VIDEO not in chunk:
            continue
        for token in TOKENS.findall(chunk):
            caption = without_tokens(next(waiting)) if token == VIDEO else ""
            made.append(f"{token} {caption} " if caption else token)
        made.append(EOC)
    return "".join(made)


def captions_of(text: str) -> list[str]:
    """Return the words right after each video token, up to the next token: what `captioned_text` put there."""
    parts = TOKENS.split(text)[1:]
    return [words.strip() for token, words in zip(TOKENS.findall(text), parts, strict=True) if token == VIDEO]


def rows_of_sample(
    index: int, sample: Sample, captions: Mapping[str, Sequence[WindowCaptions]], *, keep_original: bool
) -> Iterator[dict[str, object]]:
    """Yield the rows of one sample: the original, if it is kept, then one for each caption that its videos have kept.

    captions: by video, its windows in order. The caption of a video is those of its windows, one after the other. Row i
    has the i-th kept caption of every video; with a policy that keeps one there is one row. A sample with no caption at
    all has none.
    """
    if keep_original:
        yield _row(sample, sample.text, {"row": ORIGINAL, "sample": index})
    windows = [list(captions.get(video, ())) for video in sample.videos]
    n_rows = max((len(window.captions) for video in windows for window in video), default=0)
    for i in range(n_rows):
        said = [[window for window in video if i < len(window.captions)] for video in windows]
        texts = [_in_one([without_tokens(window.captions[i]) for window in video]) for video in said]
        provenance = {
            "row": CAPTIONED,
            "sample": index,
            "original": sample.text,
            "candidate": i,
            "windows": [
                [
                    {"start_frame": w.start_frame, "end_frame": w.end_frame, "caption": w.captions[i], "model": w.model}
                    for w in video
                ]
                for video in said
            ],
        }
        yield _row(sample, captioned_text(sample.text, texts), provenance)


def _in_one(captions: Sequence[str]) -> str:
    """Return the captions of a video's windows as one; what two windows in a row say alike is said once."""
    return " ".join(text for text, _ in groupby(captions))


def _row(sample: Sample, text: str, provenance: Mapping[str, object]) -> dict[str, object]:
    return {
        TEXT_KEY: text,
        VIDEOS_KEY: [f"{VIDEOS_FOLDER}/{path}" for path in sample.videos],
        **sample.columns,
        PROVENANCE_KEY: json.dumps(provenance, ensure_ascii=False),
    }


def batch_samples(history: BatchHistory, imported: Sequence[SampleRow]) -> tuple[list[Sample], list[str]]:
    """Return the samples of a batch: imported ones, then one for each file that none of those names; and what is left.

    A sample that names a video which is taken down is left out as a whole: its text may speak of it. So is one whose
    video has a part that is taken down, since a sample is of the whole file: a sentence for each such file.
    """
    uploads, shown = current_uploads(history), shown_paths(history)
    damaged = hidden_frames(history)
    partly = {row.path for row in uploads if row.clip_id in damaged and shown[row.path] is not None}
    hidden = partly | {row.path for row in uploads if row.clip_id is not None and shown[row.path] is None}
    if ("batch", history.batch) in standing_takedowns(history.tombstones):
        imported = ()
    samples = [
        Sample(row.text, tuple(row.videos), json.loads(row.columns))
        for row in imported if not hidden.intersection(row.videos)
    ]  # fmt: skip
    named = {video for sample in samples for video in sample.videos}
    rest = [
        sample_of_file(row.path, row.original_caption)
        for row in uploads if row.path == shown[row.path] and row.path not in named | partly
    ]  # fmt: skip
    left = [
        f"{history.batch}/{path}: a part of it is taken down, and a sample is of the whole file"
        for path in sorted(partly)
    ]
    return samples + rest, left


def export_batch(root: RootFolder, ledger: Ledger, batch: str, out: Path, options: ExportOptions) -> Exported:
    """Write `<out>/<batch>/samples.jsonl`, and the videos beside it."""
    with ledger.session() as session:
        history = read_history(session, batch, windows=False)
        imported = session.select(SampleRow, "samples WHERE batch = $batch ORDER BY sample_index", batch=batch)
        table = read_table(session, batch)
    samples, left = batch_samples(history, imported)
    captions = window_captions(table, shown_paths(history), options)
    rows = [
        row
        for index, sample in enumerate(samples)
        for row in rows_of_sample(index, sample, captions, keep_original=options.keep_original)
    ]

    def write(folder: Path) -> None:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / SAMPLES_FILE).write_text(lines, encoding="utf-8")
        if not options.videos:
            return
        for path in sorted({video for sample in samples for video in sample.videos}):
            if not place_file(root.uploads / batch / path, folder / VIDEOS_FOLDER / path):
                left.append(f"{batch}/{path}: the video is not in uploads/ any more")

    write_folder(out / batch, FORMAT, write)
    return Exported(str(out / batch / SAMPLES_FILE), len(rows), tuple(left))


def window_captions(
    table: Sequence[TableRow], shown: Mapping[str, str | None], options: ExportOptions
) -> dict[str, list[WindowCaptions]]:
    """Return the chosen captions of the windows of each path. A collapsed window would say the same twice.

    shown: by path of the batch, the one under which its content is shown.
    """
    by_path: dict[str | None, list[WindowCaptions]] = {}
    for row in table:
        if is_chosen(row, options) and row.duplicate_of is None:
            by_path.setdefault(row.clip_path, []).append(
                WindowCaptions(
                    start_frame=row.clip_start_frame + row.start_frame,
                    end_frame=row.clip_start_frame + row.end_frame,
                    captions=tuple(row.captions or ()),
                    model=row.model_id,
                )
            )
    return {path: by_path.get(name, []) for path, name in shown.items()}


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
    captions = list(_exported_captions(paths, provenance) if provenance else _read_captions(row, paths))
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


def _read_captions(row: Mapping[str, Any], paths: tuple[str, ...]) -> Iterator[DeliveredCaption]:
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
