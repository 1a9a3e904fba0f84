"""How alike two captions are: simhash as Data-Juicer defines it, token F1, Jaccard of character 3-grams."""

import hashlib
import re
import unicodedata
from collections import Counter
from functools import lru_cache

SIMHASH_BITS = 64
SHINGLE_TOKENS = 2
"""Data-Juicer's captioning operators compare captions with `DocumentSimhashDeduplicator(window_size=2)`."""

GRAM_CHARACTERS = 3

CACHED_TEXTS = 256
"""Texts whose words or grams are kept ready: each caption of a window is compared with every other one."""

_NO_SPACES = "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Han, Hiragana and Katakana: scripts written without spaces, where each character counts as a word."""

_CHUNK = re.compile(rf"[{_NO_SPACES}]|[^\s{_NO_SPACES}]+")


def space_tokens(text: str) -> list[str]:
    """Return the tokens of Data-Juicer's `split_on_whitespace`: split at U+0020 only, empty tokens removed.

    A run of spaces is therefore one separator, while tabs, line feeds and U+00A0 stay inside a token.
    """
    return [token for token in text.split(" ") if token]


def simhash64(text: str) -> int:
    """Return the 64-bit simhash of `text`, bit for bit the one of Data-Juicer 1.6 with simhash-pybind 0.0.3.

    The text is lower-cased (`str.lower`) and split into `space_tokens`. Each run of two tokens, joined by one space, is
    hashed to the first 8 bytes of the MD5 of its UTF-8, big-endian. A bit of the result is set when more of these
    hashes have it set than not. Repeated shingles count each time.

    Fewer than two tokens give 0, which says nothing about the text. A lone surrogate, which Data-Juicer refuses, is
    hashed as its three UTF-8-like bytes.
    """
    tokens = space_tokens(text.lower())
    hashes = [_md5_bits(" ".join(tokens[i : i + SHINGLE_TOKENS])) for i in range(len(tokens) - SHINGLE_TOKENS + 1)]
    columns = zip(*hashes, strict=True)
    return int("".join("1" if 2 * bits.count("1") > len(bits) else "0" for bits in columns) or "0", 2)


def _md5_bits(shingle: str) -> str:
    digest = hashlib.md5(shingle.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()
    return f"{int.from_bytes(digest[: SIMHASH_BITS // 8], 'big'):0{SIMHASH_BITS}b}"


def hamming_distance(a: int, b: int) -> int:
    """Return the number of bits in which `a` and `b` differ, 0 to 64 for two simhashes."""
    return (a ^ b).bit_count()


def words(text: str) -> list[str]:
    """Return the words of `text`, case-folded, without punctuation and symbols at their edges.

    Words are separated by white space; each Han, Hiragana or Katakana character is a word of its own, so lengths and
    overlaps mean something in Chinese and Japanese too. Thai, Lao and Khmer come out as one word per run.
    """
    folded = unicodedata.normalize("NFC", text.casefold())
    return [word for chunk in _CHUNK.findall(folded) if (word := _strip_punctuation(chunk))]


@lru_cache(maxsize=CACHED_TEXTS)
def known_words(text: str) -> tuple[str, ...]:
    """Return `words`, kept ready: several gates ask for those of one text."""
    return tuple(words(text))


def _strip_punctuation(chunk: str) -> str:
    start, end = 0, len(chunk)
    while start < end and unicodedata.category(chunk[start])[0] in "PS":
        start += 1
    while end > start and unicodedata.category(chunk[end - 1])[0] in "PS":
        end -= 1
    return chunk[start:end]


def token_f1(a: str, b: str) -> float:
    """Return the F1 of the `words` of `a` and `b` as bags, 0 to 1: twice the shared words over all words.

    The measure of SQuAD (Rajpurkar et al. 2016), but articles stay: they are a matter of English. It is symmetric, and
    1 for equal texts; a text without any word counts as one word.
    """
    bag_a, bag_b = _bag(a), _bag(b)
    return 2 * (bag_a & bag_b).total() / (bag_a.total() + bag_b.total())


@lru_cache(maxsize=CACHED_TEXTS)
def _bag(text: str) -> Counter[str]:
    return Counter(words(text) or [text])


def char3_jaccard(a: str, b: str) -> float:
    """Return the Jaccard index of the sets of character 3-grams of `a` and `b`, 0 to 1.

    The texts are lower-cased and each run of white space becomes one space. Fewer than three characters are one gram.
    """
    grams_a, grams_b = _grams(a), _grams(b)
    return len(grams_a & grams_b) / len(grams_a | grams_b)


@lru_cache(maxsize=CACHED_TEXTS)
def _grams(text: str) -> frozenset[str]:
    flat = " ".join(text.lower().split())
    return frozenset(flat[i : i + GRAM_CHARACTERS] for i in range(len(flat) - GRAM_CHARACTERS + 1)) or frozenset(
        (flat,)
    )


SIMILARITIES = {"token_f1": token_f1, "char3_jaccard": char3_jaccard}
"""Similarities by name: symmetric, 0 to 1, 1 for equal texts."""
