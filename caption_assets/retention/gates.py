"""Gates: what drops a candidate before any policy looks at it, or puts it behind the others.

A gate never deletes: the candidate keeps its row and gets a verdict. To add a gate, add its reason, its function and
its row in `GATES`; thresholds are `Parameter`s of that row, and `decide` accepts them by name.

A truncated candidate passes: it is valid, but ranks behind every one that is not (see `decision.decide`). So does one
with the words of another window that looks quite different, unless the parameter `gate_same_caption` says otherwise.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from caption_assets.retention.model import SUPERSEDED, Candidate, Echo, Evidence, ParameterValue, ReasonCode
from caption_assets.retention.parameters import Parameter, check_parameters
from caption_assets.retention.repetition import loop_at_end, repeated_share, zlib_ratio
from caption_assets.retention.script import ANY, AUTO, foreign_words, parse_scripts, scripts_asked_for
from caption_assets.retention.similarity import known_words
from caption_assets.retention.wording import echo, meta_talk, refusal, special_token

GATE_PREFIX = "gate_"
"""What the names of all parameters of gates begin with."""

MAX_WORDS = 100_000
MIN_FOREIGN_WORDS = 2
"""One word in another script may be a name."""
EVIDENCE_CHARACTERS = 80

OFF, BEHIND, DROP = "off", "behind", "drop"


class GateReason(ReasonCode):
    """Why a gate dropped a candidate, or put it behind."""

    GATE_ERROR = (
        "GATE_ERROR",
        "Its generation failed, so there is no caption to judge; the candidate row has the error.",
    )
    GATE_REFUSED = "GATE_REFUSED", "The model refused to describe this window."
    GATE_EMPTY = "GATE_EMPTY", "Its text is empty or only white space."
    GATE_SUPERSEDED = "GATE_SUPERSEDED", "A later stage or attempt replaces it, and that one was judged instead."
    GATE_SPECIAL_TOKEN = "GATE_SPECIAL_TOKEN", "It holds a token of a chat template, or bytes that are no text."
    GATE_REFUSAL = "GATE_REFUSAL", "Its words refuse to describe the window, or speak of being an AI."
    GATE_META_TALK = "GATE_META_TALK", "It speaks to its reader or of its task, as in `Here is the caption:`."
    GATE_PROMPT_ECHO = "GATE_PROMPT_ECHO", "It repeats what the model was asked."
    GATE_LOOP = "GATE_LOOP", "It ends in a loop: the model said the same again until it was stopped."
    GATE_REPETITION = "GATE_REPETITION", "Much of it is said more than once."
    GATE_WRONG_SCRIPT = "GATE_WRONG_SCRIPT", "It is written in another script than the prompt asks for."
    GATE_TOO_SHORT = "GATE_TOO_SHORT", "It has fewer words than a caption needs."
    GATE_TOO_LONG = "GATE_TOO_LONG", "It has more words than a caption may have."
    GATE_SAME_AS_NEIGHBOUR = (
        "GATE_SAME_AS_NEIGHBOUR",
        "The window before or after it has the same caption, and looks quite different.",
    )
    GATE_SAME_ELSEWHERE = "GATE_SAME_ELSEWHERE", "A window of the clip that looks quite different has the same caption."


Parameters = Mapping[str, ParameterValue]
Check = Callable[[Candidate, Parameters], Evidence | None]
"""Returns None when the candidate passes, else the evidence against it."""


@dataclass(frozen=True)
class Gate:
    """One test that every candidate must pass. `parameters` have names that no other gate or policy uses.

    mode: the parameter that says whether the gate is off, puts a candidate behind the others, or drops it. Without one
        the gate drops.
    """

    name: str
    reason: GateReason
    check: Check
    parameters: tuple[Parameter, ...] = ()
    mode: str | None = None


def _error(candidate: Candidate, _: Parameters) -> Evidence | None:
    return {"status": candidate.status} if candidate.status == "error" else None


def _refused(candidate: Candidate, _: Parameters) -> Evidence | None:
    return {"status": candidate.status} if candidate.status == "refused" else None


def _empty(candidate: Candidate, _: Parameters) -> Evidence | None:
    if candidate.status != "empty" and candidate.text.strip():
        return None
    return {"status": candidate.status, "characters": len(candidate.text)}


def _superseded(candidate: Candidate, _: Parameters) -> Evidence | None:
    return {"origin": candidate.origin} if candidate.origin == SUPERSEDED else None


def _special_token(candidate: Candidate, _: Parameters) -> Evidence | None:
    return _found(special_token(candidate.text))


def _refusal(candidate: Candidate, _: Parameters) -> Evidence | None:
    return _found(refusal(candidate.text))


def _meta_talk(candidate: Candidate, _: Parameters) -> Evidence | None:
    return _found(meta_talk(candidate.text))


def _prompt_echo(candidate: Candidate, parameters: Parameters) -> Evidence | None:
    run = int(_number(parameters, "gate_echo_words"))
    found = (echo(candidate.text, prompt, run) for prompt in candidate.prompts) if run else ()
    return _found(next((words_ for words_ in found if words_), None))


def _loop(candidate: Candidate, _: Parameters) -> Evidence | None:
    return _found(loop_at_end(candidate.text))


def _repetition(candidate: Candidate, parameters: Parameters) -> Evidence | None:
    share, most = repeated_share(candidate.text), _number(parameters, "gate_max_repeated_share")
    ratio, largest = zlib_ratio(candidate.text), _number(parameters, "gate_max_zlib_ratio")
    if share <= most and ratio <= largest:
        return None
    return {"repeated_share": share, "max_repeated_share": most, "zlib_ratio": ratio, "max_zlib_ratio": largest}


def _wrong_script(candidate: Candidate, parameters: Parameters) -> Evidence | None:
    setting = str(parameters["gate_script"])
    allowed = scripts_asked_for(candidate.prompts) if setting == AUTO else parse_scripts(setting)
    if setting == ANY or not allowed:
        return None
    foreign, total, script = foreign_words(candidate.text, allowed)
    most = _number(parameters, "gate_max_foreign_share")
    if foreign < MIN_FOREIGN_WORDS or foreign / total <= most:
        return None
    return {"script": script, "foreign_words": foreign, "words": total, "allowed": ", ".join(sorted(allowed))}


def _too_short(candidate: Candidate, parameters: Parameters) -> Evidence | None:
    count, fewest = len(known_words(candidate.text)), int(_number(parameters, "gate_min_words"))
    return {"words": count, "min_words": fewest} if count < fewest else None


def _too_long(candidate: Candidate, parameters: Parameters) -> Evidence | None:
    count, most = len(known_words(candidate.text)), int(_number(parameters, "gate_max_words"))
    return {"words": count, "max_words": most} if count > most else None


def _same_as_neighbour(candidate: Candidate, parameters: Parameters) -> Evidence | None:
    return _same(candidate, parameters, lambda found: found.is_neighbour)


def _same_elsewhere(candidate: Candidate, parameters: Parameters) -> Evidence | None:
    return _same(candidate, parameters, lambda found: not found.is_neighbour)


def _same(candidate: Candidate, parameters: Parameters, where: Callable[[Echo], bool]) -> Evidence | None:
    if not candidate.echoes or len(known_words(candidate.text)) < _number(parameters, "gate_same_words"):
        return None
    far = [
        found
        for found in candidate.echoes
        if where(found) and found.distance > _number(parameters, "gate_same_distance")
    ]
    if not far:
        return None
    farthest = max(far, key=lambda found: (found.distance, found.window_id))
    return {"window_id": farthest.window_id, "distance": farthest.distance, "windows": len(far)}


def _found(what: str | None) -> Evidence | None:
    return None if what is None else {"found": what[:EVIDENCE_CHARACTERS]}


def _number(parameters: Parameters, name: str) -> float:
    value = parameters[name]
    if not isinstance(value, int | float):
        raise TypeError(f"{name} is {value!r}; `check_parameters` lets only numbers through")
    return value


SAME_CAPTION = "gate_same_caption"

GATES: tuple[Gate, ...] = (
    Gate("error", GateReason.GATE_ERROR, _error),
    Gate("refused", GateReason.GATE_REFUSED, _refused),
    Gate("empty", GateReason.GATE_EMPTY, _empty),
    Gate("superseded", GateReason.GATE_SUPERSEDED, _superseded),
    Gate("special_token", GateReason.GATE_SPECIAL_TOKEN, _special_token),
    Gate("refusal", GateReason.GATE_REFUSAL, _refusal),
    Gate("meta_talk", GateReason.GATE_META_TALK, _meta_talk),
    Gate(
        "prompt_echo",
        GateReason.GATE_PROMPT_ECHO,
        _prompt_echo,
        (
            Parameter(
                "gate_echo_words",
                int,
                12,
                "Words in a row of a prompt (a shorter prompt: all of it) that make an echo; 0: off.",
                0,
                MAX_WORDS,
            ),
        ),
    ),
    Gate("loop", GateReason.GATE_LOOP, _loop),
    Gate(
        "repetition",
        GateReason.GATE_REPETITION,
        _repetition,
        (
            Parameter(
                "gate_max_repeated_share",
                float,
                0.5,
                "Largest share of words inside a run of four that comes again; 1: off.",
                0,
                1,
            ),
            Parameter(
                "gate_max_zlib_ratio", float, 3.0, "Largest ratio of bytes to bytes after zlib; 1000: off.", 1, 1000
            ),
        ),
    ),
    Gate(
        "wrong_script",
        GateReason.GATE_WRONG_SCRIPT,
        _wrong_script,
        (
            Parameter(
                "gate_script",
                str,
                AUTO,
                "Scripts of a caption: auto (those of the prompt and of the languages it names), any, or names such as "
                "`Latin, Han`.",
            ),
            Parameter(
                "gate_max_foreign_share",
                float,
                0.1,
                "Largest share of words in another script; one word never counts, nor do quoted ones.",
                0,
                1,
            ),
        ),
    ),
    Gate(
        "too_short",
        GateReason.GATE_TOO_SHORT,
        _too_short,
        (Parameter("gate_min_words", int, 0, "Fewest words of a caption; 0: off.", 0, MAX_WORDS),),
    ),
    Gate(
        "too_long",
        GateReason.GATE_TOO_LONG,
        _too_long,
        (Parameter("gate_max_words", int, 1000, "Most words of a caption.", 1, MAX_WORDS),),
    ),
    Gate(
        "same_as_neighbour",
        GateReason.GATE_SAME_AS_NEIGHBOUR,
        _same_as_neighbour,
        (
            Parameter(
                SAME_CAPTION,
                str,
                BEHIND,
                "A caption that a quite different window of the clip has too: off, behind (it ranks behind the others) "
                "or drop.",
                choices=(OFF, BEHIND, DROP),
            ),
            Parameter("gate_same_words", int, 8, "Fewest words for which that is told; 1: all.", 1, MAX_WORDS),
            Parameter(
                "gate_same_distance",
                float,
                0.25,
                "Share of perceptual hash bits above which two windows look quite different.",
                0,
                1,
            ),
        ),
        mode=SAME_CAPTION,
    ),
    Gate("same_elsewhere", GateReason.GATE_SAME_ELSEWHERE, _same_elsewhere, mode=SAME_CAPTION),
)
"""All gates, in the order in which they are asked; the first that fails a candidate names the reason."""

GATE_PARAMETERS: Mapping[str, Parameter] = {
    parameter.name: parameter for gate in GATES for parameter in gate.parameters
}
"""The parameters of all gates by name."""

DEFAULTS: Parameters = {name: parameter.default for name, parameter in GATE_PARAMETERS.items()}
"""What gates go by where nothing else is said. Settings are stricter: `decide` alone takes the shortest caption."""


def gate_parameters(params: Mapping[str, object], gates: Iterable[Gate]) -> dict[str, ParameterValue]:
    """Return every parameter of `gates`: the one given in `params`, which may have others too, or its default.

    Raises ValueError for an unknown name that begins like a gate's, for a value out of range, and an unknown script.
    """
    allowed = [parameter for gate in gates for parameter in gate.parameters]
    given = {name: value for name, value in params.items() if name.startswith(GATE_PREFIX)}
    resolved = check_parameters("a gate", allowed, given)
    parse_scripts(str(resolved.get("gate_script", AUTO)))
    return resolved


@dataclass(frozen=True)
class GateFailure:
    """The gate that stopped a candidate, and what it saw."""

    gate: Gate
    evidence: Evidence


def first_failure(candidate: Candidate, parameters: Parameters, gates: Iterable[Gate]) -> GateFailure | None:
    """Return the first of `gates` that `candidate` fails, or None when it is valid."""
    return _first(candidate, {**DEFAULTS, **parameters}, gates, DROP)


def first_flaw(candidate: Candidate, parameters: Parameters, gates: Iterable[Gate]) -> GateFailure | None:
    """Return the first of `gates` that puts a valid candidate behind the others, or None."""
    return _first(candidate, {**DEFAULTS, **parameters}, gates, BEHIND)


def _first(candidate: Candidate, parameters: Parameters, gates: Iterable[Gate], what: str) -> GateFailure | None:
    for gate in gates:
        if (DROP if gate.mode is None else parameters[gate.mode]) != what:
            continue
        evidence = gate.check(candidate, parameters)
        if evidence is not None:
            return GateFailure(gate, evidence)
    return None
