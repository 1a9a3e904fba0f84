"""What an import brings, whatever the layout it came in."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VIDEO = "<__dj__video>"
"""Stands in a sample's text for one of its videos."""


class SampleError(ValueError):
    """A sample contradicts itself. The message says how."""


@dataclass(frozen=True)
class Sample:
    """A sample as it came: its text, its videos (paths below the batch), and its other columns."""

    text: str
    videos: tuple[str, ...]
    columns: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.text.count(VIDEO) != len(self.videos):
            raise SampleError(f"its text has {self.text.count(VIDEO)} video tokens for {len(self.videos)} videos")


class ImportFault(ValueError):
    """Nothing can be imported from here. The message says why."""


def parse_document(content: bytes) -> Any:
    """Return the JSON value in `content`.

    Raises:
        ValueError: not UTF-8, not JSON, or a text in it holds half a character: that cannot be stored as UTF-8.
        RecursionError: it is nested too deeply.
    """
    document = json.loads(content.decode("utf-8-sig"))
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a text in it holds half a character (a lone surrogate)") from None
    return document


@dataclass(frozen=True)
class DeliveredCaption:
    """A caption of a window, or of every window of a video where no frames are named.

    path: the video's, below the batch. frames: first and last, inclusive, of the video. rank: from 0, the best first.
    """

    path: str
    text: str
    model: str
    frames: tuple[int, int] | None = None
    rank: int = 0
    enhanced: str | None = None
    enhanced_model: str | None = None


@dataclass(frozen=True)
class DeliveredPreview:
    """A moving preview of the window of a video, as a file."""

    path: str
    frames: tuple[int, int]
    file: Path


@dataclass
class Delivery:
    """Everything that was found, and a sentence for each thing that cannot be used.

    videos: by path below the batch, where each lies. originals: the words that came with a video, by path.
    """

    origin: str
    videos: dict[str, Path] = field(default_factory=dict)
    originals: dict[str, str] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    captions: list[DeliveredCaption] = field(default_factory=list)
    previews: list[DeliveredPreview] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
