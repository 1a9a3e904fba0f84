"""Policies: how the valid candidates of a window are put in order, and whether only the best or all are kept.

A policy is one function that measures a group of candidates. `decision.decide` sorts by what it measured, lets the
next policy of a chain measure the candidates that tie exactly, and at last lets the canonical order decide. To add a
policy, add its reasons, its function and its row in `POLICIES`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum

from caption_assets.ids import digest
from caption_assets.retention.model import ORIGINAL, Candidate, Evidence, ParameterValue, ReasonCode
from caption_assets.retention.parameters import Parameter, did_you_mean
from caption_assets.retention.similarity import (
    SHINGLE_TOKENS,
    SIMHASH_BITS,
    SIMILARITIES,
    char3_jaccard,
    hamming_distance,
    simhash64,
    space_tokens,
    words,
)

PLACES = ("first", "second")
"""Where a judge reads a caption of two."""

MAX_WORDS = 100_000
"""Upper limit of the length band, in words: far above any caption."""


class PolicyReason(ReasonCode):
    """Why a valid candidate was kept or not."""

    ONLY_CANDIDATE = "ONLY_CANDIDATE", "Nothing competed with it: no other candidate is valid and complete."
    TRUNCATED = "TRUNCATED", "It was cut off at the token limit, and another candidate was not."
    TIE_LATER_INDEX = (
        "TIE_LATER_INDEX",
        "The policy finds it as good as the kept one, which has the lower sample index.",
    )

    RANDOM_DRAW = "RANDOM_DRAW", "The draw from the seed and the window id fell on it."
    NOT_DRAWN = "NOT_DRAWN", "The draw from the seed and the window id fell on another candidate."
    CLOSEST_TO_REFERENCE = "CLOSEST_TO_REFERENCE", "Of all candidates it is the most like the original caption."
    FARTHER_FROM_REFERENCE = "FARTHER_FROM_REFERENCE", "Another candidate is more like the original caption."
    IS_THE_REFERENCE = "IS_THE_REFERENCE", "It is the original caption, which the others are compared with."
    KEPT_ALL = "KEPT_ALL", "The policy keeps every valid candidate."
    FIRST = "FIRST", "It has the lowest sample index."
    NOT_FIRST = "NOT_FIRST", "Another candidate has a lower sample index."
    LONGEST = "LONGEST", "It has the most words of the candidates inside the length band."
    SHORTER = "SHORTER", "Another candidate inside the length band is longer."
    NEAREST_TO_LENGTH_BAND = (
        "NEAREST_TO_LENGTH_BAND",
        "No candidate is inside the length band, and this one misses it by the fewest words.",
    )
    OUTSIDE_LENGTH_BAND = (
        "OUTSIDE_LENGTH_BAND",
        "It has fewer or more words than the length band allows, and another candidate is inside or nearer.",
    )
    MOST_AGREED = "MOST_AGREED", "On average it is the most similar to the other candidates."
    LESS_AGREED = "LESS_AGREED", "Another candidate is on average more similar to the others."
    PREFERRED_BY_JUDGE = "PREFERRED_BY_JUDGE", "The judge preferred it to the others most often, whichever came first."
    LESS_PREFERRED_BY_JUDGE = "LESS_PREFERRED_BY_JUDGE", "The judge preferred another candidate more often."
    NOT_JUDGED = "NOT_JUDGED", "No judge has compared it with another candidate."


@dataclass(frozen=True)
class Contest:
    """What a policy sees.

    group: the candidates to put in order, in canonical order (sample_index, candidate_id).
    valid: all valid candidates of the window, in canonical order. The group is a part of them: the complete ones, the
        truncated ones, or those that tie.
    parameters: the resolved parameters of all policies in the chain.
    """

    group: Sequence[Candidate]
    valid: Sequence[Candidate]
    window_id: str
    seed: int
    reference: str | None
    parameters: Mapping[str, ParameterValue]


@dataclass(frozen=True)
class Measure:
    """What a policy found out about one candidate.

    key: compared within the group, greater is better; equal keys are an exact tie.
    score: for people and charts, higher is better; None when nothing is measured.
    won, lost: the reason if this policy decides for, or against, the candidate.
    """

    key: tuple[float, ...]
    score: float | None
    evidence: Evidence
    won: PolicyReason
    lost: PolicyReason


def _no_check(_: Mapping[str, ParameterValue]) -> None:
    pass


@dataclass(frozen=True)
class Policy:
    """A row of `POLICIES`.

    measure: returns one `Measure` per candidate of the group, in its order.
    keeps_all: keep every valid candidate instead of the best.
    agreement: for policies that say how much the valid candidates of a window agree.
    check: raises ValueError for parameters that contradict each other.
    """

    name: str
    description: str
    measure: Callable[[Contest], list[Measure]]
    parameters: tuple[Parameter, ...] = ()
    keeps_all: bool = False
    agreement: Callable[[Contest], float | None] | None = None
    check: Callable[[Mapping[str, ParameterValue]], None] = _no_check


def random_any(contest: Contest) -> list[Measure]:
    """Draw one: index H(seed, window_id) mod n of the group, H being `ids.digest` as a 128-bit integer.

    The ranks go round from there, so the runner-up is the next in canonical order.
    """
    return _draw(contest, {})


def _draw(contest: Contest, note: Evidence) -> list[Measure]:
    n = len(contest.group)
    draw = int(digest(contest.seed, contest.window_id), 16) % n
    return [
        Measure(
            key=(-float((index - draw) % n),),
            score=None,
            evidence={**note, "seed": contest.seed, "n": n, "draw": draw, "index": index},
            won=PolicyReason.RANDOM_DRAW,
            lost=PolicyReason.NOT_DRAWN,
        )
        for index in range(n)
    ]


def similar_one_simhash(contest: Contest) -> list[Measure]:
    """Prefer the candidate whose simhash differs in the fewest bits from that of the original caption.

    Score: 1 - distance / 64. The original itself, when it is a candidate, ranks behind all others: Data-Juicer compares
    generated captions only, and its distance to itself would always win.

    A simhash of fewer than two tokens is 0 whatever the text, and so is that of a Chinese sentence without spaces. When
    the reference or any candidate of the group is so short, the whole group is compared by Jaccard of character
    3-grams instead, as the two measures cannot be mixed. Without a reference, or with a blank one, nothing can be
    compared and the group is drawn as in `random_any`: a batch mixes clips with and without an original, and those
    without must not fail. Evidence `fallback` tells in both cases.
    """
    reference = contest.reference
    if reference is None or not reference.strip():
        return _draw(contest, {"fallback": "no reference"})
    texts = [candidate.text for candidate in contest.group]
    if any(len(space_tokens(text)) < SHINGLE_TOKENS for text in (reference, *texts)):
        method: Evidence = {"method": "char3_jaccard", "fallback": "fewer than two tokens"}
        scores = [char3_jaccard(text, reference) for text in texts]
        details: list[Evidence] = [{"similarity": score} for score in scores]
    else:
        target = simhash64(reference)
        method = {"method": "simhash64", "reference_simhash": _hex(target)}
        hashes = [simhash64(text) for text in texts]
        distances = [hamming_distance(value, target) for value in hashes]
        scores = [1 - distance / SIMHASH_BITS for distance in distances]
        details = [{"simhash": _hex(h), "distance": d} for h, d in zip(hashes, distances, strict=True)]
    measures = []
    for candidate, score, detail in zip(contest.group, scores, details, strict=True):
        is_original = candidate.origin == ORIGINAL
        measures.append(
            Measure(
                key=(float(not is_original), score),
                score=score,
                evidence={**method, **detail, **({"origin": ORIGINAL} if is_original else {})},
                won=PolicyReason.CLOSEST_TO_REFERENCE,
                lost=PolicyReason.IS_THE_REFERENCE if is_original else PolicyReason.FARTHER_FROM_REFERENCE,
            )
        )
    return measures


def _hex(simhash: int) -> str:
    return f"{simhash:0{SIMHASH_BITS // 4}x}"  # a JSON number would lose bits above 2**53 in many readers


def keep_all(contest: Contest) -> list[Measure]:
    """Keep every valid candidate; all tie, so their rank is the canonical order or comes from the rest of the chain."""
    return [Measure((), None, {}, PolicyReason.KEPT_ALL, PolicyReason.KEPT_ALL) for _ in contest.group]


def first(contest: Contest) -> list[Measure]:
    """Prefer the lowest sample index, then the lowest candidate id."""
    return [
        Measure((-float(index),), None, {"index": index}, PolicyReason.FIRST, PolicyReason.NOT_FIRST)
        for index in range(len(contest.group))
    ]


def longest(contest: Contest) -> list[Measure]:
    """Prefer the most words (`similarity.words`), then the most characters, inside [min_words, max_words].

    A candidate outside the band loses to every one inside. When none is inside, the one that misses it by the fewest
    words wins. Score: the number of words.
    """
    low, high = _band(contest.parameters)
    measures = []
    for candidate in contest.group:
        count = len(words(candidate.text))
        missed_by = max(low - count, 0) if high is None else max(low - count, count - high, 0)
        inside = missed_by == 0
        measures.append(
            Measure(
                key=(float(inside), -float(missed_by), float(count), float(len(candidate.text))),
                score=float(count),
                evidence={
                    "words": count,
                    "characters": len(candidate.text),
                    "min_words": low,
                    "max_words": high,
                    "missed_by": missed_by,
                },
                won=PolicyReason.LONGEST if inside else PolicyReason.NEAREST_TO_LENGTH_BAND,
                lost=PolicyReason.SHORTER if inside else PolicyReason.OUTSIDE_LENGTH_BAND,
            )
        )
    return measures


def _band(parameters: Mapping[str, ParameterValue]) -> tuple[int, int | None]:
    low, high = parameters["min_words"], parameters["max_words"]
    if not isinstance(low, int) or isinstance(high, str | float):
        raise TypeError(f"min_words is {low!r}, max_words is {high!r}; `check_parameters` lets only numbers through")
    return low, high


def _check_band(parameters: Mapping[str, ParameterValue]) -> None:
    low, high = _band(parameters)
    if high is not None and low > high:
        raise ValueError(f"min_words is {low} and max_words is {high}; allowed: min_words up to max_words")


def consensus(contest: Contest) -> list[Measure]:
    """Prefer the medoid: the highest mean similarity to all other valid candidates, truncated ones included.

    Score: that mean, 0 to 1, or None for a candidate without company. Two candidates always tie, as similarity is
    symmetric: a chain such as `consensus > longest` says what then.
    """
    name = str(contest.parameters["similarity"])
    measures = []
    for candidate in contest.group:
        mean = _mean_similarity(candidate, contest)
        measures.append(
            Measure(
                key=(mean or 0.0,),
                score=mean,
                evidence={"similarity": name, "mean_similarity": mean, "compared_with": len(contest.valid) - 1},
                won=PolicyReason.MOST_AGREED,
                lost=PolicyReason.LESS_AGREED,
            )
        )
    return measures


def _mean_similarity(candidate: Candidate, contest: Contest) -> float | None:
    similarity = SIMILARITIES[str(contest.parameters["similarity"])]
    others = [other for other in contest.valid if other.candidate_id != candidate.candidate_id]
    if not others:
        return None
    # fsum rounds once, whatever the order of the others, so that equal captions tie exactly.
    return fsum(similarity(candidate.text, other.text) for other in others) / len(others)


def agreement(contest: Contest) -> float | None:
    """Return the mean similarity over all pairs of valid candidates, 0 to 1; None when there are fewer than two.

    It describes the window; the mean of the kept candidate alone is its score.
    """
    means = [_mean_similarity(candidate, contest) for candidate in contest.valid]
    known = [mean for mean in means if mean is not None]
    return min(1.0, fsum(known) / len(known)) if known else None


def judge(contest: Contest) -> list[Measure]:
    """Prefer the candidate that a judge prefers: the mean over the other valid candidates of how it fares against each.

    Against another one it fares 1 where it was chosen in both places, 0 where it was in neither, else 0.5: a judge that
    says one thing when asked in one order and another when asked in the other has said nothing. A candidate with the
    words of another fares 0.5 against it. Nobody is asked here: what was answered comes with the candidates. Score:
    that mean, or None where nothing was answered about it, which ranks behind all else.
    """
    return [_judged(candidate, contest) for candidate in contest.group]


def _judged(candidate: Candidate, contest: Contest) -> Measure:
    others = {c.candidate_id: c.text.strip() for c in contest.valid if c.candidate_id != candidate.candidate_id}
    answers = [found for found in candidate.comparisons if found.against in others and found.won is not None]
    fared: dict[str, float] = {name: 0.5 for name, text in others.items() if text == candidate.text.strip()}
    for name in others:
        won = {found.place: bool(found.won) for found in answers if found.against == name}
        if len(won) == len(PLACES):
            fared[name] = sum(won.values()) / len(PLACES)
        elif won:
            fared[name] = 0.5
    if not answers:
        evidence: Evidence = {"answers": 0, "compared_with": len(others)}
        return Measure((-1.0,), None, evidence, PolicyReason.NOT_JUDGED, PolicyReason.NOT_JUDGED)
    mean = fsum(fared[name] for name in sorted(fared)) / len(fared)
    evidence = {
        "answers": len(answers),
        "chosen": sum(bool(found.won) for found in answers),
        "compared_with": len(fared),
        "preferred": mean,
    }
    return Measure((mean,), mean, evidence, PolicyReason.PREFERRED_BY_JUDGE, PolicyReason.LESS_PREFERRED_BY_JUDGE)


POLICIES: Mapping[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy("random_any", "One candidate, drawn from the seed and the window id.", random_any),
        Policy(
            "similar_one_simhash",
            "The candidate most like the original caption, by simhash as Data-Juicer computes it.",
            similar_one_simhash,
        ),
        Policy("all", "Every valid candidate.", keep_all, keeps_all=True),
        Policy("first", "The candidate with the lowest sample index.", first),
        Policy(
            "longest",
            "The candidate with the most words inside a length band.",
            longest,
            parameters=(
                Parameter("min_words", int, 0, "Fewest words of the length band.", 0, MAX_WORDS),
                Parameter("max_words", int, None, "Most words of the length band; None: no limit.", 1, MAX_WORDS),
            ),
            check=_check_band,
        ),
        Policy("judge", "The candidate that a model prefers, compared two by two in both orders.", judge),
        Policy(
            "consensus",
            "The medoid: the candidate most similar to the other ones.",
            consensus,
            parameters=(
                Parameter("similarity", str, "token_f1", "How two captions are compared.", choices=tuple(SIMILARITIES)),
            ),
            agreement=agreement,
        ),
    )
}
"""All policies by name."""

JUDGE = "judge"

CHAIN = ">"


def parse_policy(text: str) -> tuple[Policy, ...]:
    """Return the policies of a chain such as "consensus > longest", the strongest first.

    Raises ValueError for an unknown name (with the allowed ones), for a policy named twice, and for `all` behind
    another policy: it finds every candidate equally good, so it breaks no tie.
    """
    chain: list[Policy] = []
    for name in (part.strip() for part in text.split(CHAIN)):
        if name not in POLICIES:
            raise ValueError(f"policy is {name!r}; allowed: {', '.join(POLICIES)}{did_you_mean(name, POLICIES)}")
        policy = POLICIES[name]
        if policy in chain:
            raise ValueError(f"policy {text!r} names {name} twice")
        if chain and policy.keeps_all:
            raise ValueError(f"policy {text!r}: {name} breaks no tie; allowed: {name} as the first of a chain")
        chain.append(policy)
    return tuple(chain)


def policy_name(chain: Sequence[Policy]) -> str:
    """Return the canonical spelling of a chain."""
    return f" {CHAIN} ".join(policy.name for policy in chain)
