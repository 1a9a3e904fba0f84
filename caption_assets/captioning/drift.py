"""The drift check: does an enhanced caption say what its source says, and nothing that no candidate bears out?

A pure function of texts and limits. It reads claims by rules (`facts`), so it sees an invented name, number, colour,
quotation or negation, and lost content; it does not see an invented object or event. docs/drift.md has the reasons of
the limits, and figures.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from caption_assets.captioning.facts import Facts, Name, Quantity, same_value, supports_content
from caption_assets.captioning.lexicon import FIRST_PERSON, KNOWN_WORDS, TASK_OPENINGS, TASK_WORDS
from caption_assets.settings.groups import EnhanceSettings

DriftStatus = Literal["ok", "drifted", "unchanged"]

FEW_CAPITALS = 0.2
"""Above this share of capitals inside sentences, capitals do not tell names: German writes every noun with one."""


@dataclass(frozen=True)
class Drift:
    """The result of a check. evidence: JSON-ready; `reasons` in it are what made the text drift, in words."""

    status: DriftStatus
    evidence: Mapping[str, object]

    @property
    def reason(self) -> str | None:
        """Everything that is wrong, in one line; None where nothing is."""
        reasons = self.evidence["reasons"]
        return "; ".join(map(str, reasons)) if isinstance(reasons, list) and reasons else None


def check_drift(
    enhanced: str, source: str, others: Iterable[str], limits: EnhanceSettings, *, sees_frames: bool = False
) -> Drift:
    """Compare an enhanced caption with its source and the other candidates of the window, which bear out as much.

    sees_frames: it was made from the frames, as engines without a language model do: what it adds may be measured, so
    only what it loses is judged.
    """
    new, old = Facts(enhanced), Facts(source)
    support = [old, *(Facts(text) for text in sorted({text for text in others if text.strip()}))]
    if new.sequence == old.sequence and new.words:
        return Drift("unchanged", {"reasons": [], "n_texts": len(support)})
    findings: dict[str, object] = {}
    not_checked = _not_checked(new, old, support, sees_frames=sees_frames)
    if not sees_frames:
        findings |= _inventions(new, support, not_checked)
    findings |= _losses(new, old, not_checked)
    ratio = new.length / max(old.length, 1)
    reasons = [
        *(f"{label}: {_listed(findings.get(name))}" for name, label in LABELS.items() if findings.get(name)),
        *_length_reason(ratio, limits, sees_frames=sees_frames),
        *_lost_reason(findings, limits),
    ]
    evidence = {
        **{name: value for name, value in findings.items() if value or name == "lost_share"},
        "length_ratio": round(ratio, 3),
        "n_texts": len(support),
        "reasons": reasons,
        **({"not_checked": list(not_checked.values())} if not_checked else {}),
    }
    return Drift("drifted" if reasons else "ok", evidence)


LABELS: Mapping[str, str] = {
    "new_names": "new names",
    "new_quotes": "new quotations",
    "new_numbers": "new numbers",
    "new_colors": "new colours",
    "new_negations": "denied",
    "task_talk": "speaks of its task",
    "lost_names": "lost names",
    "lost_numbers": "lost numbers",
    "lost_negations": "no longer denied",
}
"""Findings that each make a text drift, and how reasons call them."""


def _not_checked(new: Facts, old: Facts, support: Sequence[Facts], *, sees_frames: bool) -> dict[str, str]:
    """Return what could not be checked, by kind, with the reason."""
    if sees_frames:
        return {"new": "what is new: the engine made this text from the frames, which may show it"}
    skipped: dict[str, str] = {}
    if not new.has_case:
        skipped["names"] = "names other than well-known ones: the script has no capitals"
    elif not new.capitals_tell:
        skipped["names"] = "names other than well-known ones: the text does not use capitals to tell them"
    elif not old.is_english and max(text.capital_share for text in (new, *support)) > FEW_CAPITALS:
        skipped["capitals"] = "names other than well-known ones: capitals are too frequent in this language"
    if not old.is_english:
        skipped["words"] = "number words, colours, negations and lost words: the lists are English, the source is not"
    return skipped


def _inventions(new: Facts, support: Sequence[Facts], not_checked: Mapping[str, str]) -> dict[str, object]:
    english = "words" not in not_checked
    found: dict[str, object] = {
        "new_names": _distinct(
            name.text
            for name in new.names
            if (name.known or "capitals" not in not_checked) and not _name_is_borne_out(name, support)
        ),
        "new_quotes": _distinct(
            f'"{quote}"' for quote, stems in new.quotes if not any(stems <= text.stems for text in support)
        ),
        "new_numbers": _distinct(
            quantity.text
            for quantity in new.quantities
            if quantity.claim and (english or _in_digits(quantity)) and not _number_is_borne_out(quantity, support)
        ),
    }
    if english:
        known = frozenset(family for text in support for family in text.colors)
        found["new_colors"] = _distinct(text for text, families in new.color_claims if not families & known)
        found["new_negations"] = _distinct(
            phrase
            for stem, phrase in new.negated.items()
            if any(stem in text.affirmed for text in support) and not any(stem in text.negated for text in support)
        )
        found["task_talk"] = _task_talk(new, support)
    return found


def _name_is_borne_out(name: Name, support: Sequence[Facts]) -> bool:
    """Tell whether some text has the name: its words side by side, in whatever case, or what it is known to name."""
    if any(_has_in_a_row(text, name) for text in support):
        return True
    if name.known is None or not any(name.known in text.known_names for text in support):
        return False
    others = [key for key in name.keys if key not in KNOWN_WORDS[name.known]]
    return all(any(key in text.keys for text in support) for key in others)


def _has_in_a_row(text: Facts, name: Name) -> bool:
    wanted = len(name.stems)
    words = [word for word in text.words if word.key not in ("of", "the", "de")]
    stems = [word.stem for word in words]
    keys = [word.key for word in words]
    return any(
        all(stems[i + j] == name.stems[j] or keys[i + j] == name.keys[j] for j in range(wanted))
        for i in range(len(stems) - wanted + 1)
    )


def _number_is_borne_out(quantity: Quantity, support: Sequence[Facts]) -> bool:
    """Tell whether some text has the value, and the unit where there is one."""
    return any(
        same_value(quantity.value, other.value) and (quantity.unit is None or quantity.unit == other.unit)
        for text in support
        for other in text.quantities
    )


def _in_digits(quantity: Quantity) -> bool:
    return quantity.text[:1].isdigit()


def _task_talk(new: Facts, support: Sequence[Facts]) -> list[str]:
    """Return what shows that the text speaks to whoever asked for it, of itself or of captions, unlike its source."""
    start = " ".join(new.plain.casefold().split())
    found = [
        opening for opening in TASK_OPENINGS if start.startswith(opening) and not start[len(opening) :][:1].isalpha()
    ]
    for said in (TASK_WORDS, FIRST_PERSON):
        words = [word for word in new.words if word.key in said and not new.is_quoted(word)]
        if words and not any(text.keys & said for text in support):
            found.append(words[0].text)
    return found


def _losses(new: Facts, old: Facts, not_checked: Mapping[str, str]) -> dict[str, object]:
    english = "words" not in not_checked
    found: dict[str, object] = {
        "lost_names": _distinct(
            name.text
            for name in old.names
            if (name.known or "capitals" not in not_checked) and not _name_is_kept(name, new)
        ),
        "lost_numbers": _distinct(
            quantity.text
            for quantity in old.quantities
            if quantity.claim
            and _must_be_kept(quantity, english=english)
            and not any(same_value(quantity.value, other.value) for other in new.quantities)
        ),
    }
    if not english:
        return found
    found["lost_negations"] = _distinct(
        phrase for stem, phrase in old.negated.items() if stem in new.affirmed and stem not in new.negated
    )
    content = old.content
    lost = [word.text for stem, word in content.items() if not supports_content(stem, word.key, new)]
    found["lost_words"] = lost
    found["lost_share"] = round(len(lost) / len(content), 3) if content else 0.0
    return found


def _name_is_kept(name: Name, new: Facts) -> bool:
    if name.known is not None and name.known in new.known_names:
        return True
    return any(stem in new.stems or key in new.keys for stem, key in zip(name.stems, name.keys, strict=True))


def _must_be_kept(quantity: Quantity, *, english: bool) -> bool:
    """Figures, and what has a unit, are facts that may not go. A count in words may turn into what it counts."""
    return _in_digits(quantity) or (english and quantity.unit is not None)


def _length_reason(ratio: float, limits: EnhanceSettings, *, sees_frames: bool) -> list[str]:
    if ratio < limits.drift_min_length_ratio:
        return [f"length ratio {ratio:.2f} below {limits.drift_min_length_ratio:g}"]
    if ratio > limits.drift_max_length_ratio and not sees_frames:
        return [f"length ratio {ratio:.2f} above {limits.drift_max_length_ratio:g}"]
    return []


def _lost_reason(findings: Mapping[str, object], limits: EnhanceSettings) -> list[str]:
    share, words = findings.get("lost_share"), findings.get("lost_words")
    if isinstance(share, float) and share > limits.drift_max_lost:
        return [f"lost {share:.0%} of the content, above {limits.drift_max_lost:.0%}: {_listed(words)}"]
    return []


def _distinct(texts: Iterable[str]) -> list[str]:
    """Return texts once each, in order, whatever their case."""
    return list({text.casefold(): text for text in reversed(list(texts))}.values())[::-1]


def _listed(words: object) -> str:
    return ", ".join(map(str, words)) if isinstance(words, list) else ""
