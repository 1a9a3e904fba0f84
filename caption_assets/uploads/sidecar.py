"""What comes with a video in a text or JSON file beside it: an original caption, and columns of its own."""

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
    value = _caption_of(_document_in(path))
    if value is None:
        return None
    if not isinstance(value, str):
        raise SidecarError(f"{path.name}: the caption is not a text")
    if not _is_storable(value):
        raise SidecarError(f"{path.name}: the caption holds half a character (a lone surrogate)")
    return value.strip() or None


def read_columns(path: Path) -> dict[str, str | None]:
    """Return the texts in `clip.json` by their keys; a value that is no text is None: the key is there all the same.

    A document that is no object has no keys.

    Raises:
        SidecarError: not UTF-8, not JSON, too large, or a key or text that cannot be stored.
    """
    document = _document_in(path)
    columns = document if isinstance(document, dict) else {}
    texts = {key: value if isinstance(value, str) else None for key, value in columns.items()}
    odd = [key for key, text in texts.items() if not _is_storable(key + (text or ""))]
    if odd:
        raise SidecarError(f"{path.name}: {odd[0]!r} holds half a character (a lone surrogate)")
    return texts


def _document_in(path: Path) -> object:
    """Return what a JSON file holds, or the text of any other."""
    if path.stat().st_size > MAX_SIDECAR_BYTES:
        raise SidecarError(f"{path.name}: larger than {MAX_SIDECAR_BYTES:,} bytes")
    try:
        text = path.read_text(encoding="utf-8-sig")
        return json.loads(text) if path.suffix.lower() == ".json" else text
    except UnicodeDecodeError:
        raise SidecarError(f"{path.name}: not UTF-8 text") from None
    except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        raise SidecarError(f"{path.name}: not JSON that can be read ({error})") from None


def _is_storable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _caption_of(document: object) -> object:
    if not isinstance(document, dict):
        return document
    return next((document[key] for key in CAPTION_KEYS if key in document), None)
