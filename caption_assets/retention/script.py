"""Scripts: which ones a text is written in, and which ones a prompt asks for."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from caption_assets.retention.similarity import known_words
from caption_assets.retention.wording import plain_speech

AUTO, ANY = "auto", "any"

SCRIPTS = (
    "Latin", "Han", "Hiragana", "Katakana", "Hangul", "Cyrillic", "Greek", "Arabic", "Hebrew", "Devanagari", "Bengali",
    "Tamil", "Telugu", "Thai", "Georgian", "Armenian",
)  # fmt: skip
"""Scripts that are told apart; letters of another count as `Other`."""

_BY_NAME = {script.upper(): script for script in SCRIPTS} | {"CJK": "Han", "HALFWIDTH": "Katakana"}

_LANGUAGES = {
    "Han": r"chinese|mandarin|cantonese",
    "Han Hiragana Katakana": r"japanese",
    "Hangul Han": r"korean",
    "Cyrillic": r"russian|ukrainian|bulgarian|serbian|macedonian|belarusian|kazakh|mongolian",
    "Greek": r"greek",
    "Arabic": r"arabic|persian|farsi|urdu",
    "Hebrew": r"hebrew",
    "Devanagari": r"hindi|marathi|nepali|sanskrit",
    "Bengali": r"bengali|bangla",
    "Tamil": r"tamil",
    "Telugu": r"telugu",
    "Thai": r"thai",
    "Georgian": r"georgian",
    "Armenian": r"armenian",
    "Latin": r"english|german|french|spanish|italian|portuguese|dutch|polish|turkish|vietnamese|indonesian|swedish"
    r"|英文|英语|英語",
}
_ASKED = {scripts: re.compile(rf"(?<!\w)(?:{names})(?!\w)") for scripts, names in _LANGUAGES.items()}


@lru_cache(maxsize=4096)
def script_of(character: str) -> str | None:
    """Return the script of a letter, by its Unicode name; None for what is no letter."""
    if unicodedata.category(character)[0] != "L":
        return None
    name = unicodedata.name(character, "").removeprefix("FULLWIDTH ").split(" ")[0].split("-")[0]
    return _BY_NAME.get(name, "Other")


def scripts_asked_for(prompts: Iterable[str]) -> frozenset[str]:
    """Return the scripts of the prompts' own letters and of the languages that they name; may be empty."""
    found: set[str] = set()
    for prompt in prompts:
        found |= {script for character in prompt if (script := script_of(character))}
        if found & {"Hiragana", "Katakana"}:
            found |= {"Hiragana", "Katakana", "Han"}
        for scripts, pattern in _ASKED.items():
            if pattern.search(prompt.casefold()):
                found |= set(scripts.split())
    return frozenset(found)


def foreign_words(text: str, allowed: frozenset[str]) -> tuple[int, int, str | None]:
    """Return how many words of `text` are in another script, of how many that have one, and the commonest such script.

    What is quoted is left out; a word has the script of its first letter.
    """
    scripts = Counter(
        script
        for word in known_words(plain_speech(text))
        if (script := next((s for character in word if (s := script_of(character))), None))
    )
    foreign = {script: count for script, count in scripts.items() if script not in allowed}
    return sum(foreign.values()), scripts.total(), max(foreign, key=lambda s: (foreign[s], s), default=None)


def parse_scripts(text: str) -> frozenset[str] | None:
    """Return the scripts that a setting such as "Latin, Han" names; None for `auto` and `any`.

    Raises ValueError for an unknown name.
    """
    if text in (AUTO, ANY):
        return None
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in SCRIPTS:
            raise ValueError(f"script is {name!r}; allowed: {AUTO}, {ANY}, or names out of {', '.join(SCRIPTS)}")
    return frozenset(names)
