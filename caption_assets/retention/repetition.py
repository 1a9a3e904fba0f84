"""Texts that repeat themselves: n-gram share, compression, and the loop a decoder falls into."""

import zlib
from collections import Counter

from caption_assets.retention.similarity import known_words

GRAM_WORDS = 4
MIN_WORDS = 20
"""A shorter text has too few n-grams for a share of them to mean anything."""
MIN_ZLIB_BYTES = 200
"""A shorter text does not compress whatever it says."""

LOOP_UNIT_CHARACTERS = 200
MIN_LOOP_CHARACTERS = 40
MIN_LOOP_TURNS = 4


def repeated_share(text: str) -> float:
    """Return the share of words inside a 4-gram that occurs more than once, 0 to 1; 0 for fewer than 20 words.

    The duplicate n-gram measure of Gopher (Rae et al. 2021, appendix A), by words instead of characters.
    """
    said = known_words(text)
    if len(said) < MIN_WORDS:
        return 0.0
    grams = [tuple(said[i : i + GRAM_WORDS]) for i in range(len(said) - GRAM_WORDS + 1)]
    counts = Counter(grams)
    inside = {position + k for position, gram in enumerate(grams) if counts[gram] > 1 for k in range(GRAM_WORDS)}
    return len(inside) / len(said)


def zlib_ratio(text: str) -> float:
    """Return bytes of UTF-8 per byte of zlib (level 6); 1 for fewer than 200 bytes.

    The compression ratio by which Whisper (Radford et al. 2022) tells a decoder's loop.
    """
    data = text.encode("utf-8", "surrogatepass")
    return len(data) / len(zlib.compress(data, 6)) if len(data) >= MIN_ZLIB_BYTES else 1.0


def loop_at_end(text: str) -> str | None:
    """Return what `text` ends in repeating, four times or more over 40 characters or more, or None.

    The unit has up to 200 characters and a letter or digit: a run of dots is no loop. The last turn may be cut off.
    """
    tail = text.rstrip()
    for period in range(1, LOOP_UNIT_CHARACTERS + 1):
        length = max(MIN_LOOP_CHARACTERS, MIN_LOOP_TURNS * period)
        if length > len(tail):
            return None
        end = tail[-length:]
        if end[period:] == end[:-period] and any(character.isalnum() for character in end[:period]):
            return end[:period].strip()
    return None
