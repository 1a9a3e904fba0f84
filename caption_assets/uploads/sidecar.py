"""Original captions that come with a video, in a text or JSON file beside it."""

import json
from pathlib import Path

MAX_SIDECAR_BYTES = 1_000_000
CAPTION_KEYS = ("caption", "text")


class SidecarError(ValueError):
    """A sidecar cannot be used; the video still can. The message says why."""


def read_original_caption(path: Path) -> str | None:
    """Return the caption in `clip.txt` (the whole text) or `clip.json` (its key `caption`, else `text`).

    None where the file holds no caption.

    Raises:
        SidecarError: not UTF-8, not JSON, too large, or the caption is not a text that can be stored.
    """
    if path.stat().st_size > MAX_SIDECAR_BYTES:
        raise SidecarError(f"{path.name}: larger than {MAX_SIDECAR_BYTES:,} bytes")
    try:
        text = path.read_text(encoding="utf-8-sig")
        value = _caption_of(json.loads(text)) if path.suffix.lower() == ".json" else text
    except UnicodeDecodeError:
        raise SidecarError(f"{path.name}: not UTF-8 text") from None
    except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        raise SidecarError(f"{path.name}: not JSON that can be read ({error})") from None
    if value is None:
        return None
    if not isinstance(value, str):
        raise SidecarError(f"{path.name}: the caption is not a text")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise SidecarError(f"{path.name}: the caption holds half a character (a lone surrogate)")
    return value.strip() or None


def _caption_of(document: object) -> object:
    if not isinstance(document, dict):
        return document
    return next((document[key] for key in CAPTION_KEYS if key in document), None)
