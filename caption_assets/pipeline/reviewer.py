"""Who decides: a person's name as the ledger holds it, and the fault of asking for what cannot be."""

from caption_assets.ids import PERSON

MAX_NAME_CHARACTERS = 100


class ReviewError(ValueError):
    """What a person asked for cannot be done. The message says why, and what can."""


def person(name: str) -> str:
    """Return `user:NAME`.

    Raises:
        ReviewError: the name is empty, too long, or holds control characters.
    """
    cleaned = name.strip()
    if not cleaned or len(cleaned) > MAX_NAME_CHARACTERS or not cleaned.isprintable():
        raise ReviewError(f"the name is {name!r}; allowed: 1 to {MAX_NAME_CHARACTERS} printable characters")
    return PERSON + cleaned
