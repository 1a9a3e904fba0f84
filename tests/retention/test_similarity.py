import hashlib
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caption_assets.retention.similarity import (
    SIMILARITIES,
    char3_jaccard,
    hamming_distance,
    simhash64,
    token_f1,
    words,
)

# Made with simhash-pybind 0.0.3 on the shingles of py-data-juicer 1.6.1's own `split_on_whitespace`.
GOLDEN = {
    "a man walks a dog in the park": 11324782352960742615,
    "A Man Walks A Dog In The Park": 11324782352960742615,
    "a man walks  a dog in the park": 11324782352960742615,
    " a man walks a dog in the park ": 11324782352960742615,
    "a man walks a dog in the park.": 11343869329081793750,
    "a woman walks a cat in the park": 15060234560989998086,
    "the park": 7577794025659704381,
    "red car": 15838163351276496847,
    "": 0,
    "park": 0,
    "a\tb": 0,
    "a\nb c": 4412972897164983187,
    "a\u00a0b c": 5161662129280076275,
    "一只 狗 在 公园 里": 990892387021177089,
    "一只狗在公园里": 0,
    "Ein Äpfel fällt vom Baum": 9944053530392299612,
    "ΟΔΟΣ ΟΔΟΣ ΟΔΟΣ": 5811994014494340481,
    "İstanbul Boğazı gece": 13546846372053012644,
    "dog dog dog dog dog": 4688044916052511048,
    "🚗 drives past 🚶 slowly": 13240730395797105153,
    "a b a b": 921493332900466999,
    "x y z " * 50: 16776373960363364876,
}

RANDOM_TEXTS = 2_000


def naive_simhash(text: str) -> int:
    """The same definition with counters and shifts, after simhash-cpp, and a hand-made splitter."""
    tokens: list[bytes] = []
    token = b""
    for character in text.lower() + " ":
        if character != " ":
            token += character.encode()
        elif token:
            tokens.append(token)
            token = b""
    counts = [0] * 64
    previous = None
    for token in tokens:
        if previous is not None:
            (value,) = struct.unpack(">Q", hashlib.md5(previous + b" " + token).digest()[:8])
            for i in range(64):
                counts[i] += 1 if value & 1 else -1
                value >>= 1
        previous = token
    result = 0
    for i, count in enumerate(counts):
        if count > 0:
            result |= 1 << i
    return result


def random_text(rng: random.Random) -> str:
    alphabets = (
        "ab c",
        "the cat  sat ON mat ",
        "àéÎ ßẞ ıİI ς Σ",
        "一只狗 在公园里",
        "🚗🚶 👩‍🚀 x",
        " \t\n\u00a0\u3000y",
        "0.,!? -",
    )
    alphabet = rng.choice(alphabets) if rng.random() < 0.7 else "".join(alphabets)
    return "".join(rng.choice(alphabet) for _ in range(rng.choice((0, 1, 2, 5, 20, 80, 300))))


@pytest.mark.parametrize(("text", "expected"), GOLDEN.items())
def test_simhash_is_the_one_of_data_juicer(text: str, expected: int) -> None:
    assert simhash64(text) == expected


def test_simhash_equals_an_independent_implementation_on_2000_random_texts() -> None:
    rng = random.Random(20261121)
    texts = [random_text(rng) for _ in range(RANDOM_TEXTS)]
    assert len(set(texts)) > RANDOM_TEXTS / 2
    assert [text for text in texts if simhash64(text) != naive_simhash(text)] == []


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_simhash_equals_an_independent_implementation_on_any_text(text: str) -> None:
    assert simhash64(text) == naive_simhash(text)


@given(st.text())
def test_simhash_is_a_64_bit_number_for_every_text(text: str) -> None:
    assert 0 <= simhash64(text) < 2**64


def test_simhash_takes_a_lone_surrogate() -> None:
    assert simhash64("a \ud800 b") > 0


def test_hamming_distance_counts_the_bits_that_differ() -> None:
    assert hamming_distance(0b1011, 0b0010) == 2
    assert hamming_distance(2**64 - 1, 0) == 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A dog, runs!", ["a", "dog", "runs"]),
        ("it's a well-known car", ["it's", "a", "well-known", "car"]),
        ("dog - cat", ["dog", "cat"]),
        ("  \t\n", []),
        ("...!?", []),
        ("一只狗。", ["一", "只", "狗"]),
        ("ナンバー 42の車", ["ナ", "ン", "バ", "ー", "42", "の", "車"]),
        ("STRASSE Straße", ["strasse", "strasse"]),
        ("e\u0301te\u0301", ["été"]),
        ("हिन्दी की", ["हिन्दी", "की"]),
    ],
)
def test_words_are_folded_without_punctuation_and_han_and_kana_stand_alone(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_token_f1_is_twice_the_shared_words_over_all_words() -> None:
    assert token_f1("a dog runs", "A dog sits.") == pytest.approx(4 / 6)
    assert token_f1("dog dog", "dog") == pytest.approx(2 / 3)


def test_token_f1_compares_chinese_by_character() -> None:
    assert token_f1("一只狗", "一只猫") == pytest.approx(4 / 6)


def test_char3_jaccard_is_the_share_of_common_three_character_runs() -> None:
    assert char3_jaccard("abcd", "ABCE") == pytest.approx(1 / 3)
    assert char3_jaccard("a  b\tc", "a b c") == 1
    assert char3_jaccard("狗", "狗") == 1
    assert char3_jaccard("狗", "猫") == 0


@pytest.mark.parametrize("name", SIMILARITIES)
@given(a=st.text(), b=st.text())
def test_a_similarity_is_symmetric_within_0_and_1_and_1_for_equal_texts(name: str, a: str, b: str) -> None:
    similarity = SIMILARITIES[name]
    assert similarity(a, b) == similarity(b, a)
    assert 0 <= similarity(a, b) <= 1
    assert similarity(a, a) == 1
