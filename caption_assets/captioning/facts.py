"""What a caption claims, as far as rules can read it: names, numbers, colours, negations, content words.

Read with the word lists of `lexicon`. Capital letters tell names only inside a sentence; at the start of one, and in
text without capitals, the names of `lexicon.WELL_KNOWN` and a few patterns are all that is seen.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property, lru_cache

from caption_assets.captioning.lexicon import (
    ABBREVIATIONS,
    ALIKE,
    CAPITAL_WORDS,
    COLORS,
    COUNT_WORDS,
    FRAMING,
    HUE_WORDS,
    IRREGULAR,
    LONGEST_NAME,
    MANY_WORDS,
    NAME_LINKS,
    NEGATIONS,
    NOT_NEGATIONS,
    ONE_WORDS,
    ORDINALS,
    PAIR_WORDS,
    SCALES,
    STOP_WORDS,
    TENS,
    UNITS,
    UNITS_OF_ONE,
    WEAK_COLORS,
    WELL_KNOWN,
)

TITLE_SHARE, TITLE_WORDS = 0.6, 3
"""A line of so many words or more, of which such a share (function words aside) has capitals, is a title."""

ENGLISH_SHARE = 0.2
"""Share of function words from which a text is read as English; English prose has 0.35 to 0.55, other languages 0.1."""

_NO_SPACES = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Letters of scripts that put no spaces between words: Thai, Lao, Japanese, Chinese."""

_TOKEN = re.compile(
    rf"""
      (?P<unit>km\s*/\s*h\b|m\s*/\s*s\b|mi\s*/\s*h\b|(?:kilomet(?:er|re)s|miles|met(?:er|re)s)\s(?:per|an)\s(?:hour|second)\b
             |%|°\s?[CF]?\b|(?<![^\W\d_])[ap]\.\s?m\b\.?)
    | (?P<currency>[$€£])
    | (?P<code>[^\W\d_{_NO_SPACES}]+-?\d\w*)                 # A380, B2B
    | (?P<number>\d+(?:[.,:]\d+)*)
    | (?P<word>[{_NO_SPACES}]+|[^\W\d_{_NO_SPACES}]+(?:'[^\W\d_]+)*'?)
    | (?P<end>[.!?。！？…]+)
    | (?P<open>["“„«(\[:\n•])
    | (?P<other>\S)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_QUOTED = re.compile(r'(?<!\w)["“„«]([^"“”„«»\n]{2,80})["”“»](?!\w)')
_LABEL = re.compile(r"^[ \t]*(?:[A-Z][\w']*[ \t]+){0,3}[A-Za-z][\w']*:(?=\s|$)", re.MULTILINE)
_LIST_MARK = re.compile(r"^[ \t]*(?:[-*•]|\d{1,2}[.)])[ \t]+", re.MULTILINE)
_MARKDOWN = re.compile(r"[*_`~]+|^#+", re.MULTILINE)
_FRACTION = re.compile(r"(\d*)([¼-¾⅐-⅞])")


@dataclass(frozen=True)
class Word:
    """A word or number as it stands in a text.

    text: as written. span: where it stands. key: folded (case, accents, possessive). stem: key without its ending.
    kind: word, number, code (A380), unit or currency. starts: it may open a sentence, so that its capital says nothing.
    follows: it comes right after the word before it, or after a hyphen.
    """

    text: str
    span: tuple[int, int]
    key: str
    stem: str
    kind: str
    starts: bool
    follows: bool
    after_comma: bool
    in_title: bool

    @property
    def has_capital(self) -> bool:
        """It begins with a capital letter and has more than one."""
        return len(self.text) > 1 and self.text[0].isupper()

    @property
    def has_inner_capital(self) -> bool:
        """It has a capital further in, as names have at any place of a sentence: YouTube, BMW, A380."""
        letters = self.text if self.kind == "code" else self.text[1:]
        return any(letter.isupper() for letter in letters)


@dataclass(frozen=True)
class Quantity:
    """A number that a text states. value: canonical text. unit: canonical, or None. claim: it has to be borne out."""

    text: str
    value: str
    unit: str | None
    claim: bool


@dataclass(frozen=True)
class Name:
    """A name: its words as written, folded, and what it names where it is well known."""

    text: str
    keys: tuple[str, ...]
    stems: tuple[str, ...]
    known: str | None


class Facts:
    """What one text claims. Everything is worked out when it is first asked for."""

    def __init__(self, text: str):
        self.text = text
        self.plain = _plain(text)
        self.words = tuple(_words(self.plain))

    @cached_property
    def keys(self) -> frozenset[str]:
        """All words, folded."""
        return frozenset(word.key for word in self.words)

    @cached_property
    def stems(self) -> frozenset[str]:
        """The stems of all words."""
        return frozenset(word.stem for word in self.words)

    @cached_property
    def sequence(self) -> tuple[str, ...]:
        """The folded words and numbers in order: texts that differ in case, space and punctuation alone share it."""
        return tuple(word.key for word in self.words)

    @cached_property
    def has_case(self) -> bool:
        """Letters of a script with capitals are the majority."""
        letters = [letter for letter in self.plain if letter.isalpha()]
        return 2 * sum(letter.lower() != letter.upper() for letter in letters) > len(letters)

    @cached_property
    def capitals_tell(self) -> bool:
        """Capitals mark names: the text has some, and not everywhere."""
        letters = [letter for letter in self.plain if letter.lower() != letter.upper()]
        capitals = sum(letter.isupper() for letter in letters)
        return 0 < capitals <= 0.5 * len(letters)

    @cached_property
    def capital_share(self) -> float:
        """Share of the words inside sentences that have a capital."""
        inside = [word for word in self.words if word.kind == "word" and not word.starts and not word.in_title]
        return sum(word.has_capital for word in inside) / max(len(inside), 1)

    @cached_property
    def is_english(self) -> bool:
        """Enough of its words are function words of English; a text too short to tell counts as English."""
        words = [word for word in self.words if word.kind == "word"]
        if not self.has_case:
            return False
        return len(words) < 6 or sum(word.key in STOP_WORDS for word in words) >= ENGLISH_SHARE * len(words)

    @cached_property
    def length(self) -> int:
        """Words; letters where the script puts no spaces between words."""
        if self.has_case or not self.words:
            return len(self.words)
        return sum(len(word.text) for word in self.words)

    @cached_property
    def colors(self) -> frozenset[str]:
        """The families of all colour words."""
        return frozenset(family for word in self.words for family in COLORS.get(word.key, ()))

    @cached_property
    def color_claims(self) -> tuple[tuple[str, frozenset[str]], ...]:
        """Colour words that are meant as colours, as written, with their families."""
        found = []
        for index, word in enumerate(self.words):
            families = COLORS.get(word.key)
            beside = self.words[index + 1].key if index + 1 < len(self.words) else ""
            if families and (word.key not in WEAK_COLORS or beside in HUE_WORDS):
                found.append((word.text, families))
        return tuple(found)

    @cached_property
    def quantities(self) -> tuple[Quantity, ...]:
        """Every number, in digits and in words."""
        return tuple(_quantities(self.plain, self.words))

    @cached_property
    def names(self) -> tuple[Name, ...]:
        """Every name that can be told to be one, in order."""
        return tuple(_names(self))

    @cached_property
    def known_names(self) -> frozenset[str]:
        """What its well-known names name, wherever they stand."""
        return frozenset(known for _, _, known in _well_known(self.words))

    @cached_property
    def quotes(self) -> tuple[tuple[str, frozenset[str]], ...]:
        """Quoted words, which a caption gives as read from the picture, with the stems of their content words."""
        found = []
        for quote in _QUOTED.findall(self.plain):
            stems = frozenset(w.stem for w in _words(quote) if w.key not in STOP_WORDS)
            if stems:
                found.append((quote.strip(), stems))
        return tuple(found)

    def is_quoted(self, word: Word) -> bool:
        """Tell whether a word stands between quotation marks."""
        return any(start <= word.span[0] < end for start, end in self._quoted_spans)

    @cached_property
    def _quoted_spans(self) -> tuple[tuple[int, int], ...]:
        return tuple(match.span() for match in _QUOTED.finditer(self.plain))

    @cached_property
    def content(self) -> dict[str, Word]:
        """Its content words by stem: no function words, no words that only say that there is a video."""
        skipped = STOP_WORDS | FRAMING
        return {
            word.stem: word
            for word in self.words
            if word.kind == "word" and len(word.key) > 2 and word.key not in skipped and not _is_number_word(word.key)
        }

    @cached_property
    def negated(self) -> dict[str, str]:
        """Stems of content words that a negation stands before (the first one after it), with the phrase."""
        return dict(self._by_polarity[0])

    @cached_property
    def affirmed(self) -> frozenset[str]:
        """Stems of content words that stand somewhere without a negation before them."""
        return self._by_polarity[1]

    @cached_property
    def _by_polarity(self) -> tuple[dict[str, str], frozenset[str]]:
        negated: dict[str, str] = {}
        affirmed: set[str] = set()
        negation: Word | None = None
        for index, word in enumerate(self.words):
            following = self.words[index + 1].key if index + 1 < len(self.words) else ""
            if word.starts or word.after_comma:
                negation = None
            if _negates(word.key) and following not in NOT_NEGATIONS:
                negation = word
            elif word.stem in self.content and not word.key.endswith("ly"):
                if negation is None:
                    affirmed.add(word.stem)
                else:
                    negated.setdefault(word.stem, self.plain[negation.span[0] : word.span[1]])
                negation = None
        return negated, frozenset(affirmed)


def supports_content(stem: str, key: str, facts: Facts) -> bool:
    """Tell whether `facts` have a content word, or one that stands for it."""
    if stem in facts.stems or key in facts.keys:
        return True
    if key in COLORS:
        return bool(COLORS[key] & facts.colors)
    group = _group(stem)
    return any((group is not None and _group(other) == group) or _same_root(stem, other) for other in facts.content)


def _same_root(one: str, other: str) -> bool:
    """Photo and photographer, traffic and trafficked: a beginning of five letters or more that is most of one word."""
    shorter, longer = sorted((one, other), key=len)
    return len(shorter) >= 5 and longer.startswith(shorter) and len(longer) <= 2 * len(shorter) + 2


@lru_cache(maxsize=65_536)
def _group(stem: str) -> int | None:
    return _GROUPS.get(stem)


def _negates(key: str) -> bool:
    return key in NEGATIONS or key.endswith("n't")


def _is_number_word(key: str) -> bool:
    return key in _NUMBER_WORDS


# --- words ------------------------------------------------------------------------------------------------------------


def _plain(text: str) -> str:
    """Return text with one spelling of apostrophes, hyphens, fractions and units, without markup and labels."""
    text = _FRACTION.sub(_as_decimal, text)
    text = unicodedata.normalize("NFKC", text)
    text = "".join(character for character in text if unicodedata.category(character) != "Cf")
    text = text.replace("’", "'").replace("‘", "'").replace("ʼ", "'").replace("‐", "-").replace("\r", "\n")
    return _LIST_MARK.sub("\n", _MARKDOWN.sub("", text))


def _as_decimal(match: re.Match[str]) -> str:
    whole, part = match[1], round(unicodedata.numeric(match[2]), 3)
    return f"{int(whole or 0) + part:g}"


def _words(text: str) -> Iterator[Word]:
    titles = _title_spans(text)
    starts, last_end, after_comma, previous = True, -1, False, ""
    for match in _TOKEN.finditer(text):
        kind, token = str(match.lastgroup), match[0]
        if kind == "end":
            # A full stop after an abbreviation or an initial does not end a sentence.
            if not (token == "." and (previous in ABBREVIATIONS or len(previous) == 1)):
                starts = True
            elif match.start() == last_end:
                last_end = match.end()
        elif kind == "open":
            starts = True
        elif kind == "other":
            after_comma = after_comma or token in ",;，、–—"
            if token == "-" and match.start() == last_end:
                last_end = match.end()
        else:
            key = _UNIT_KEYS.get(re.sub(r"[\s.]", "", token.casefold()), fold(token)) if kind == "unit" else fold(token)
            end = match.start() + len(token.rstrip("'"))
            yield Word(
                text=text[match.start() : end],
                span=(match.start(), end),
                key=key,
                stem=stem_of(key) if kind == "word" else key,
                kind=kind,
                starts=starts,
                follows=last_end >= 0 and not starts and text[last_end : match.start()] in ("", " "),
                after_comma=after_comma,
                in_title=any(start <= match.start() < end for start, end in titles),
            )
            starts, after_comma, last_end, previous = token.endswith("."), False, match.end(), key


_UNIT_KEYS = {
    **dict.fromkeys(("km/h", "kilometersperhour", "kilometresperhour", "kilometersanhour", "kilometresanhour"), "km/h"),
    **dict.fromkeys(("mi/h", "milesperhour", "milesanhour"), "mph"),
    **dict.fromkeys(("m/s", "meterspersecond", "metrespersecond"), "m/s"),
    "%": "percent",
    "°": "degrees",
    "°c": "degrees",
    "°f": "°f",
    "am": "am",
    "pm": "pm",
}


def _title_spans(text: str) -> list[tuple[int, int]]:
    """Return where titles stand: lines without a full stop, and labels such as `Enhanced Caption:`."""
    spans = [match.span() for match in _LABEL.finditer(text) if len(match[0].split()) > 1]
    position = 0
    for line in text.split("\n"):
        words = [word for word in re.findall(r"[^\W\d_]+", line) if word.lower() not in STOP_WORDS]
        is_sentence = line.rstrip().endswith((".", "!", "?"))
        if (
            not is_sentence
            and len(words) >= TITLE_WORDS
            and sum(word[0].isupper() for word in words) >= TITLE_SHARE * len(words)
        ):
            spans.append((position, position + len(line)))
        position += len(line) + 1
    return spans


@lru_cache(maxsize=65_536)
def fold(token: str) -> str:
    """Return a word without case, accents and possessive ending."""
    plain = unicodedata.normalize("NFKD", token.casefold())
    plain = "".join(character for character in plain if not unicodedata.combining(character))
    return unicodedata.normalize("NFC", plain).removesuffix("'s").rstrip("'")


@lru_cache(maxsize=65_536)
def stem_of(key: str) -> str:
    """Return a folded word without its ending: walks, walked, walking and walk have one stem."""
    if key in IRREGULAR:
        key = IRREGULAR[key]
    word = key
    for ending, replacement in (
        ("ies", "y"),
        ("ied", "y"),
        ("sses", "ss"),
        ("xes", "x"),
        ("ches", "ch"),
        ("shes", "sh"),
    ):
        if word.endswith(ending) and len(word) >= len(ending) + 2:
            word = word.removesuffix(ending) + replacement
            break
    else:
        if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
            word = word.removesuffix("s")
    for ending in ("ingly", "edly", "ing", "ed", "ly"):
        rest = word.removesuffix(ending)
        if rest != word and len(rest) >= 3 and re.search("[aeiouy]", rest):
            word = rest
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    if word.endswith("e") and len(word) > 3:
        word = word[:-1]
    if word.endswith("i") and len(word) > 3:
        word = word[:-1] + "y"
    return word


# --- numbers ----------------------------------------------------------------------------------------------------------

_NUMBER_WORDS = frozenset(
    [*UNITS_OF_ONE, *TENS, *SCALES, *COUNT_WORDS, *ORDINALS, *MANY_WORDS, *PAIR_WORDS, *ONE_WORDS]
)


def _quantities(plain: str, words: Sequence[Word]) -> Iterator[Quantity]:
    index = 0
    while index < len(words):
        start = index
        number = _number_in_digits(words, index) or _number_in_words(words, index)
        if number is None:
            index += 1
            continue
        value, claim, index = number
        unit = None
        if start > 0 and words[start - 1].kind == "currency" and words[start].follows:
            start -= 1
            unit = _CURRENCIES[words[start].text]
        elif index < len(words) and words[index].follows:
            key = words[index].key
            if key in ("am", "pm", "o'clock"):
                value, index = _time(value, key), index + 1
            elif key in UNITS and value not in MANY_WORDS:
                unit, index = UNITS[key], index + 1
        text = plain[words[start].span[0] : words[index - 1].span[1]]
        yield Quantity(text, _time(value, ""), unit, claim)


_CURRENCIES = {"$": "dollar", "€": "euro", "£": "lb"}


def _number_in_digits(words: Sequence[Word], index: int) -> tuple[str, bool, int] | None:
    """Read a number in digits; return its value, whether it is a claim, and the index behind it."""
    if words[index].kind != "number":
        return None
    value, claim, index = _digits(words[index].key), True, index + 1
    following = words[index].key if index < len(words) and words[index].follows else ""
    if following in SCALES and _DECIMAL.fullmatch(value):
        return _canonical(Decimal(value) * SCALES[following]), claim, index + 1
    if following in ("st", "nd", "rd", "th"):
        return value, value not in ("1", "2"), index + 1
    return value, value != "1", index


_DECIMAL = re.compile(r"\d+(\.\d+)?")


def _digits(token: str) -> str:
    """Return the canonical value of a number in digits of any script; several dots or colons stay as they are."""
    digits = "".join(str(unicodedata.digit(c)) if c.isdigit() else c for c in token)
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", digits):
        digits = digits.replace(",", "")
    elif re.fullmatch(r"\d+,\d+", digits):
        digits = digits.replace(",", ".")
    return _canonical(Decimal(digits)) if _DECIMAL.fullmatch(digits) else digits


def _canonical(value: Decimal) -> str:
    text = f"{value:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).lstrip("0") or "0"


def _number_in_words(words: Sequence[Word], index: int) -> tuple[str, bool, int] | None:
    key = words[index].key
    if key in MANY_WORDS:
        return key, True, index + 1
    if key in PAIR_WORDS:
        return "2", False, index + 1
    if key in ORDINALS:
        return str(ORDINALS[key]), True, index + 1
    if key in COUNT_WORDS:
        return str(COUNT_WORDS[key]), True, index + 1
    number = _spelled_out(words, index)
    if number is not None:
        return str(number[0]), number[0] > 1, number[1]
    return ("1", False, index + 1) if key in ONE_WORDS else None


def _spelled_out(words: Sequence[Word], index: int) -> tuple[int, int] | None:
    """Read a number in words that begins at `index`; return its value and the index behind it."""
    total, current = 0, -1  # the thousands and millions that are complete; what is being read, or -1
    after_article = index > 0 and words[index - 1].key == "a"
    position = index
    while position < len(words) and (position == index or words[position].follows):
        key = words[position].key
        following = words[position + 1].key if position + 1 < len(words) else ""
        small = UNITS_OF_ONE.get(key, TENS.get(key))
        if small is not None:
            fits = current < 0 or (current > 0 and current % 100 == 0)
            if not fits and not (current % 10 == 0 and current % 100 >= 20 and 0 < small < 10):
                break
            current = max(current, 0) + small
        elif key in SCALES and (current > 0 or (position == index and after_article)):
            if key == "hundred":
                current = max(current, 1) * 100
            else:
                total, current = total + max(current, 1) * SCALES[key], -1
        elif key == "and" and (following in UNITS_OF_ONE or following in TENS):
            if not ((current > 0 and current % 100 == 0) or (current < 0 and total > 0)):
                break
        else:
            break
        position += 1
    return (total + max(current, 0), position) if position > index else None


def _time(value: str, mark: str) -> str:
    """Return a time of day in one spelling, with `a` or `p` where it is said; anything else, such as 10:1, as it is."""
    match = re.fullmatch(r"(\d{1,2})(?::(\d{2}(?::\d{2})?))?", value)
    if match is None or not (match[2] or mark) or int(match[1]) > 24:
        return value
    hour = int(match[1]) % 12 + 12 if mark == "pm" else int(match[1]) % 12 if mark == "am" else int(match[1])
    return f"{hour}:{match[2] or '00'}{mark[0] if mark in ('am', 'pm') else ''}"


def same_value(one: str, other: str) -> bool:
    """Tell whether two values agree. A time without am or pm may mean either half of the day."""
    if one == other or ":" not in one or ":" not in other:
        return one == other
    unmarked = one[-1].isdigit() or other[-1].isdigit()
    (hour, _, rest), (other_hour, _, other_rest) = one.rstrip("ap").partition(":"), other.rstrip("ap").partition(":")
    return unmarked and rest == other_rest and (int(hour) - int(other_hour)) in (0, 12, -12)


# --- names ------------------------------------------------------------------------------------------------------------


def _names(facts: Facts) -> Iterator[Name]:
    words = facts.words
    taken: set[int] = set()
    known = {start: (end, name) for start, end, name in _well_known(words)}
    inside = {word.key for word in words if word.has_capital and not word.starts and not word.in_title}
    lower = {word.key for word in words if word.text[:1].islower()}
    found: list[tuple[int, int]] = []
    index = 0
    while index < len(words):
        end = _run_of_capitals(words, index) if facts.capitals_tell else index
        if end > index:
            found += _named_part(words, index, end, inside, lower)
            index = end
        else:
            index += 1
    for start, end in found:
        taken.update(range(start, end))
    found += [(start, end) for start, (end, _) in known.items() if not taken.issuperset(range(start, end))]
    for start, end in sorted(found):
        part = words[start:end]
        name = next((n for s, (e, n) in known.items() if start <= s and e <= end), None)
        yield Name(
            text=facts.plain[part[0].span[0] : part[-1].span[1]].removesuffix("'s"),
            keys=tuple(word.key for word in part if word.key not in NAME_LINKS),
            stems=tuple(word.stem for word in part if word.key not in NAME_LINKS),
            known=name,
        )


def _well_known(words: Sequence[Word]) -> Iterator[tuple[int, int, str]]:
    """Yield `(start, end, what it names)` of the longest well-known name at each place."""
    index = 0
    while index < len(words):
        for length in range(min(LONGEST_NAME, len(words) - index), 0, -1):
            part = words[index : index + length]
            name = WELL_KNOWN.get(tuple(word.key for word in part))
            if name is not None and all(word.follows for word in part[1:]):
                yield index, index + length, name
                index += length
                break
        else:
            index += 1


def _run_of_capitals(words: Sequence[Word], index: int) -> int:
    """Return the end of the run of capitalised words that begins at `index`, or `index` where there is none."""
    end = index
    while end < len(words) and (end == index or words[end].follows):
        word = words[end]
        if _may_be_name(word):
            end += 1
            continue
        links = end
        while links < len(words) and words[links].follows and words[links].key in NAME_LINKS:
            links += 1
        if end == index or links == end or links >= len(words) or links - end > 2:
            break
        if not (words[links].follows and _may_be_name(words[links])):
            break
        end = links + 1
    return end


def _may_be_name(word: Word) -> bool:
    if word.kind == "number" or not (word.has_capital or word.has_inner_capital):
        return False
    return word.key not in STOP_WORDS and word.key not in CAPITAL_WORDS and not _is_number_word(word.key)


def _named_part(
    words: Sequence[Word], start: int, end: int, inside: set[str], lower: set[str]
) -> list[tuple[int, int]]:
    """Return the part of a run of capitalised words that is a name, or nothing.

    A capital tells a name inside a sentence. The first word of one is a name with capitals after it, with a capital in
    it, where the same word has one elsewhere, or where it is explained at once (`Luminari, a city`).
    """
    run = words[start:end]
    if any(word.in_title for word in run):
        return [(i, i + 1) for i in range(start, end) if words[i].has_inner_capital and not words[i].text.isupper()]
    first = run[0]
    if not first.starts or first.has_inner_capital or len(run) > 1:
        return [(start, end)]
    if first.key in inside or (first.key not in lower and _is_explained(words, end)):
        return [(start, end)]
    return []


def _is_explained(words: Sequence[Word], index: int) -> bool:
    """Tell whether the word before `index` has an apposition: a comma, an article, and it was a noun."""
    if index < 1 or index >= len(words) or not words[index].after_comma:
        return False
    name = words[index - 1].key
    return words[index].key in ("a", "an", "the", "known", "named") and not name.endswith(("ly", "ing", "ed", "s"))


_GROUPS = {stem_of(fold(word)): group for word, group in ALIKE.items()}
