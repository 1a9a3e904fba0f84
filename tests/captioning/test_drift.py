"""The drift check: what it finds, what it lets pass, and how it fares on the real answers of a small text model.

`smollm2.jsonl` holds 25 captions and every one of 170 answers that SmolLM2-135M-Instruct (Apache-2.0, see
tests/engines/smollm2.py) gave through transformers 5.23 on a CPU to the enhancement prompts of this project (`default`,
`av-surveillance`) and to a plainer one (`rewrite`), none left out. `read` says how a person found each: faithful, lossy
(true, but much is gone), unfaithful or unchanged; `invented_names` are those that this person read in it. The last 40,
`held_out`, were read before the check had seen them; the limits were set on the other 130.
`faithful.json` holds enhancements that a person wrote as a good model would.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from caption_assets.captioning.drift import Drift, check_drift
from caption_assets.captioning.facts import Facts, stem_of
from caption_assets.settings.groups import EnhanceSettings

HERE = Path(__file__).parent
LINES = [json.loads(line) for line in (HERE / "smollm2.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
SOURCES = {line["source"]: line for line in LINES if "source" in line}
ANSWERS = [line for line in LINES if "of" in line]
FAITHFUL = json.loads((HERE / "faithful.json").read_text(encoding="utf-8"))
LIMITS = EnhanceSettings()
INVENTIONS = ("new_names", "new_quotes", "new_numbers", "new_colors")
STREET = "Several cars drive along a street at night."


def check(enhanced: str, source: str, *others: str, **options: Any) -> Drift:
    return check_drift(enhanced, source, others, LIMITS, **options)


def check_answer(answer: dict[str, Any]) -> Drift:
    source = SOURCES[answer["of"]]
    return check(answer["text"], source["caption"], *source["others"])


# --- inventions -------------------------------------------------------------------------------------------------------

INVENTED: dict[str, tuple[str, str, str, list[str]]] = {
    "a place in a sentence": (
        "Cars drive along a street of New York at night.", STREET, "new_names", ["New York"]),
    "a place first in a sentence": ("Paris glows at night, and cars drive along.", STREET, "new_names", ["Paris"]),
    "a possessive": ("Cars drive along Tokyo's main street at night.", STREET, "new_names", ["Tokyo"]),
    "a place without capitals": ("in new york, cars drive along a street at night.", STREET, "new_names", ["new york"]),
    "a name of several words with a link": (
        "Cars drive along the Avenue of the Americas at night.", STREET, "new_names", ["Avenue of the Americas"]),
    "words that are there, but not as a name": (
        "A park: cars in Central Park.", "A car in the central part of a park.", "new_names", ["Central Park"]),
    "an unknown name explained at once": (
        "Luminari, a city, has a street. Cars drive along at night.", STREET, "new_names", ["Luminari"]),
    "an unknown name that comes again": (
        "Luminari sleeps. Cars drive along a street of Luminari at night.", STREET, "new_names", ["Luminari"]),
    "an inner capital first in a sentence": (
        "YouTube shows cars that drive along a street at night.", STREET, "new_names", ["YouTube"]),
    "initials": ("Cars drive along J. Smith Street at night.", STREET, "new_names", ["Smith Street"]),
    "a model with a number": ("An A380 flies over cars on a street at night.", STREET, "new_names", ["A380"]),
    "another name beside a known one": (
        "The Eiffel Tower in Paris, France.", "The Eiffel Tower in Paris.", "new_names", ["France"]),
    "an accent": ("Cars drive along a street of Québec at night.", STREET, "new_names", ["Québec"]),
    "a person and a day": (
        "On Monday, Emily drives along a street at night, among cars.", STREET, "new_names", ["Monday", "Emily"]),
    "a text read from the picture": (
        'Cars drive along a street at night, past a sign that reads "open late".', STREET, "new_quotes",
        ['"open late"']),
    "several becomes five": ("Five cars drive along a street at night.", STREET, "new_numbers", ["Five"]),
    "digits": ("Exactly 12 cars drive along a street at night.", STREET, "new_numbers", ["12"]),
    "a compound number": ("Twenty-five cars drive along a street at night.", STREET, "new_numbers", ["Twenty-five"]),
    "an ordinal": ("A third car drives along a street at night.", STREET, "new_numbers", ["third"]),
    "a time of day": ("At 8:15 p.m., cars drive along a street at night.", STREET, "new_numbers", ["8:15 p.m."]),
    "the other half of the day": (
        "A train leaves at 8:15 pm.", "A train leaves at 8:15 am.", "new_numbers", ["8:15 pm"]),
    "another unit": ("A car drives at 50 mph.", "A car drives at 50 km/h.", "new_numbers", ["50 mph"]),
    "a unit that was not there": (
        "Three cars drive for three minutes.", "Three cars drive.", "new_numbers", ["three minutes"]),
    "a decimal that moved": ("A clip of 52 seconds.", "A clip of 5.2 seconds.", "new_numbers", ["52 seconds"]),
    "an age": ("A 20-year-old drives a car along a street at night.", STREET, "new_numbers", ["20-year"]),
    "vague, but many": (
        "Hundreds of cars drive along a street at night.", STREET, "new_numbers", ["Hundreds"]),
    "a colour": ("Red cars drive along a street at night.", STREET, "new_colors", ["Red"]),
    "half of a compound": (
        "A dark-blue car on a white road.", "A dark car on a road.", "new_colors", ["blue", "white"]),
    "a tinge": ("Cars drive along a greenish street at night.", STREET, "new_colors", ["greenish"]),
    "a thing as a colour": (
        "Cars drive along a street at night in amber hues.", STREET, "new_colors", ["amber"]),
    "a denial": ("The car does not stop at a light.", "A car stops at a light.", "new_negations", ["not stop"]),
    "a talk about the task": (
        "This caption shows cars that drive along a street at night.", STREET, "task_talk", ["caption"]),
    "an answer to somebody": (
        "Sure! Cars drive along a street at night.", STREET, "task_talk", ["sure"]),
    "a speaker": ("I would say that cars drive along a street at night.", STREET, "task_talk", ["i would", "I"]),
}  # fmt: skip

LOST: dict[str, tuple[str, str, str, list[str]]] = {
    "a name": (
        "Cars drive along a street at night.", "Cars drive along a street of Rome at night.", "lost_names", ["Rome"]),
    "a figure": ("A train enters the station.", "A train enters the station at 8:15.", "lost_numbers", ["8:15"]),
    "a measure in words": ("A car waits.", "A car waits for ten seconds.", "lost_numbers", ["ten seconds"]),
    "a denial": (
        "A car backs out after stopping.", "A car backs out without stopping.", "lost_negations", ["without stopping"]),
}  # fmt: skip


@pytest.mark.parametrize(("enhanced", "source", "kind", "words"), [*INVENTED.values(), *LOST.values()],
                         ids=[*INVENTED, *(f"lost: {name}" for name in LOST)])  # fmt: skip
def test_what_drifted_is_found_with_the_exact_words(enhanced: str, source: str, kind: str, words: list[str]) -> None:
    drift = check(enhanced, source)
    assert (drift.status, drift.evidence.get(kind)) == ("drifted", words)
    assert drift.reason and all(word in drift.reason for word in words)


@pytest.mark.parametrize("name", [name for name, case in INVENTED.items() if case[2] in INVENTIONS])
def test_what_another_candidate_says_is_no_invention(name: str) -> None:
    enhanced, source, kind, _ = INVENTED[name]
    assert kind not in check(enhanced, source, enhanced).evidence


def test_lost_content_counts_by_its_share() -> None:
    source = "A woman chops carrots on a wooden board in a kitchen."
    most = check("A woman chops carrots in a kitchen.", source)
    assert (most.status, most.evidence["lost_words"], most.evidence["lost_share"]) == ("ok", ["wooden", "board"], 0.333)
    little = check("A woman is here, and there is a kitchen.", source)
    assert little.reason == "lost 67% of the content, above 50%: chops, carrots, wooden, board"


def test_a_length_out_of_the_band_is_drift_with_the_ratio() -> None:
    long = check(" ".join(["Cars drive along a street at night."] * 6), STREET)
    assert long.reason == "length ratio 5.25 above 5"
    short = check("Cars drive at night.", "Cars drive and drive and drive along at night and all along the night.")
    assert short.reason == "length ratio 0.29 below 0.5"
    assert check_drift(STREET * 6, STREET, [], EnhanceSettings(drift_max_length_ratio=7)).status == "ok"


# --- no inventions ----------------------------------------------------------------------------------------------------

SAME: dict[str, tuple[str, str]] = {
    "capitals at the start of sentences": (
        "Traffic flows at night. Headlights shine. Cars drive along the street, and: Nothing stops. (Really.)", STREET),
    "a number in digits": ("The 2 cars drive along.", "Two cars drive along."),
    "a number in words": ("Twelve cars drive along.", "12 cars drive along."),
    "thousands": ("There are 1,200 cars.", "There are one thousand two hundred cars."),
    "digits of full width": ("１２ cars drive along the road.", "Twelve cars drive along the road."),
    "a pair for two": ("A pair of cars drive, both fast.", "Two cars drive fast."),
    "one and first": (
        "One car, the first one, drives along a street, and then a second one.", "Cars drive along a street."),
    "the other clock": ("A train leaves at 8:15 p.m. today.", "A train leaves at 20:15."),
    "a spelled out unit": ("A car drives at 50 kilometers per hour.", "A car drives at 50 km/h."),
    "a fraction": ("A wall of 5.5 meters.", "A wall of 5½ m."),
    "list marks": ("1. Cars drive.\n2. It is a street at night.", STREET),
    "a spelling of a colour": ("A grayish van on a road.", "A grey van on a road."),
    "a shade of a colour": ("A crimson car and a navy van on a road.", "A red car and a dark-blue van on a road."),
    "a colour that is a thing": (
        "As the sun rose, a man eats an orange peach with cream.", "A man eats an orange peach."),
    "a plural and a possessive": ("The dogs' owner throws balls.", "A dog's owner throws a ball."),
    "inflections": ("Children rode along, laughing.", "A child rides along and laughs."),
    "a name in other letters": ("Cars in NEW YORK, at night.", "Cars in New York at night."),
    "the people of a place": ("Parisian cars in Paris.", "Cars in Paris."),
    "an accent": ("Guests sit in a café.", "Guests sit in a cafe."),
    "a title": ("Cars Along a Street\nSeveral cars drive along a street at night.", STREET),
    "markdown": ("**Several cars** drive along a _street_ at night.", STREET),
    "devices": ("On TV, cars drive along a street at night past a CCTV.", STREET),
    "a denial kept": (
        "No pedestrian is seen, and the car doesn't stop.", "There is no pedestrian. A car does not stop."),
    "not only": ("The car not only stops at a light.", "A car stops at a light."),
}  # fmt: skip


@pytest.mark.parametrize(("enhanced", "source"), SAME.values(), ids=SAME)
def test_what_says_the_same_in_other_words_is_ok(enhanced: str, source: str) -> None:
    drift = check(enhanced, source)
    assert (drift.status in ("ok", "unchanged"), drift.reason) == (True, None)


def test_an_engine_that_sees_the_frames_may_add_what_it_measured_but_not_lose_anything() -> None:
    measured = check(f"{STREET} The picture is 43% green, 29% grey, on average.", STREET, sees_frames=True)
    assert measured.status == "ok"
    assert measured.evidence["not_checked"]
    assert check("The picture is 43% green.", STREET, sees_frames=True).status == "drifted"


@pytest.mark.parametrize(
    ("enhanced", "source", "status", "said"),
    [
        ("一个男人在海滩上遛狗，海浪轻轻拍岸。", "一个男人在海滩上遛狗。", "ok", "the script has no capitals"),
        ("一个男人在海滩上遛5只狗。", "一个男人在海滩上遛狗。", "drifted", "the lists are English"),
        ("Ein Mann geht mit seinem Hund am Strand entlang, und die Wellen rollen an das Ufer.",
         "Ein Mann geht mit seinem Hund am Strand.", "ok", "capitals are too frequent"),
        ("Un hombre camina con su perro por la playa de Barcelona.", "Un hombre camina con su perro por la playa.",
         "drifted", "the lists are English"),
    ],
)  # fmt: skip
def test_what_cannot_be_checked_in_a_language_is_said(enhanced: str, source: str, status: str, said: str) -> None:
    drift = check(enhanced, source)
    assert drift.status == status
    assert any(said in reason for reason in drift.evidence["not_checked"])  # type: ignore[attr-defined]


# --- any text ---------------------------------------------------------------------------------------------------------

SENTENCES = [sentence for source in SOURCES.values() for sentence in source["caption"].split(". ")]
captions = st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=4).map(". ".join)
texts = st.one_of(captions, st.text(max_size=80))


@given(text=texts, others=st.lists(texts, max_size=3))
def test_a_text_that_is_the_source_is_unchanged_whatever_its_case_and_spaces(text: str, others: list[str]) -> None:
    assume(Facts(text).words)
    assert check(text, text, *others).status == "unchanged"
    assert check(f"  {text} \n", text, *others).status == "unchanged"


@given(
    source=captions, name=st.sampled_from(["Zanzibar", "Elyria Heights", "Lake Tenebria", "Mr. Dupont"]), data=st.data()
)
def test_a_name_that_nothing_bears_out_is_drift_wherever_it_is_put(source: str, name: str, data: st.DataObject) -> None:
    words = source.split()
    place = data.draw(st.integers(1, len(words)))
    drift = check(" ".join([*words[:place], "near", name, *words[place:]]), source)
    assert drift.status == "drifted"
    assert name.split()[-1] in str(drift.evidence["new_names"])


@given(source=captions, number=st.integers(14, 10**9), data=st.data())
def test_a_number_or_a_colour_that_nothing_bears_out_is_drift(source: str, number: int, data: st.DataObject) -> None:
    facts = Facts(source)
    color = data.draw(st.sampled_from(["crimson", "yellow", "greenish", "dark-blue", "purple", "pink", "brown"]))
    assume(str(number) not in {quantity.value for quantity in facts.quantities})
    assume(not Facts(color).colors & facts.colors)
    drift = check(f"{source} And {number:,} {color} balloons.", source)
    assert drift.evidence["new_numbers"] == [f"{number:,}"]
    assert drift.evidence["new_colors"] == [color.removeprefix("dark-")]


@given(enhanced=texts, source=texts, others=st.lists(texts, max_size=4), data=st.data())
def test_the_order_of_the_other_candidates_and_how_often_they_come_change_nothing(
    enhanced: str, source: str, others: list[str], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(others))
    assert check(enhanced, source, *others) == check(enhanced, source, *shuffled, *shuffled)


@given(enhanced=captions, source=captions, others=st.lists(captions, max_size=2), more=captions)
def test_another_candidate_never_adds_an_invention(enhanced: str, source: str, others: list[str], more: str) -> None:
    few, many = check(enhanced, source, *others), check(enhanced, source, *others, more)
    for kind in INVENTIONS:
        assert set(many.evidence.get(kind, [])) <= set(few.evidence.get(kind, []))  # type: ignore[call-overload]


@given(text=st.text(max_size=200), source=st.text(max_size=200))
def test_any_text_can_be_checked_and_the_evidence_is_json(text: str, source: str) -> None:
    drift = check(text, source)
    assert (drift.status == "drifted") == (drift.reason is not None)
    json.dumps(drift.evidence)


@pytest.mark.parametrize(
    "forms",
    ["walk walks walked walking", "drive drives driving drove", "baby babies", "watch watches watched", "stop stopped",
     "man men", "person people", "quick quickly", "leaf leaves", "cross crosses crossing", "try tries tried"],
)  # fmt: skip
def test_inflections_have_one_stem(forms: str) -> None:
    assert len({stem_of(form) for form in forms.split()}) == 1


@pytest.mark.parametrize("pair", ["bus us", "glass glance", "red read", "ski sky", "wing win", "ceiling seal"])
def test_other_words_have_another_stem(pair: str) -> None:
    one, other = pair.split()
    assert stem_of(one) != stem_of(other)


# --- a real model -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", FAITHFUL)
def test_what_a_person_wrote_from_the_caption_alone_is_no_drift(of: str) -> None:
    drift = check(FAITHFUL[of], SOURCES[of]["caption"], *SOURCES[of]["others"])
    assert (drift.status, drift.reason) == ("ok", None)


def test_what_a_person_wrote_from_another_caption_is_drift() -> None:
    statuses = {
        check(text, source["caption"], *source["others"]).status
        for of, text in FAITHFUL.items()
        for source in SOURCES.values()
        if not source["source"].startswith(of[:4])
    }
    assert statuses == {"drifted"}


@pytest.mark.parametrize(
    "answer", [a for a in ANSWERS if a["invented_names"]], ids=lambda a: ", ".join(a["invented_names"])
)
def test_each_answer_in_which_the_model_invented_a_name_has_drifted(answer: dict[str, Any]) -> None:
    assert check_answer(answer).status == "drifted"


def test_the_names_that_the_model_invented_are_named() -> None:
    """New York City for `a city` among them. Of those missed, two stand in titles, whose words all have capitals."""
    invented = [(answer, name) for answer in ANSWERS for name in answer["invented_names"]]
    missed = {name for answer, name in invented if name not in str(check_answer(answer).evidence.get("new_names"))}
    assert len(invented) == 34
    assert missed == {"Redevious", "Bush Street", "Espaça no Cargo"}
    assert "New York City" in {name for _, name in invented}


def test_no_answer_that_a_person_found_faithful_has_drifted() -> None:
    found = {read: [check_answer(a).status for a in ANSWERS if a["read"] == read] for read in ("faithful", "unchanged")}
    assert set(found["faithful"]) == {"ok"}
    assert set(found["unchanged"]) == {"unchanged"}


def test_how_many_unfaithful_answers_are_caught() -> None:
    """The rest invent things and events without a name, a number or a colour: rules cannot see that."""
    read = {held_out: [check_answer(a).status == "drifted" for a in ANSWERS if a["read"] == "unfaithful"
                       and a.get("held_out", False) is held_out] for held_out in (False, True)}  # fmt: skip
    assert {held_out: (sum(caught), len(caught)) for held_out, caught in read.items()} == {
        False: (86, 107),
        True: (15, 22),
    }
