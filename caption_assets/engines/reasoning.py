"""Reasoning models think before they answer: what they thought is split off and never becomes part of a caption."""

import re

MARKERS = (
    ("<think>", "</think>"),  # Qwen3, DeepSeek-R1, GLM-V, InternVL
    ("<thinking>", "</thinking>"),
    ("◁think▷", "◁/think▷"),  # Kimi-VL
    ("[THINK]", "[/THINK]"),  # Magistral
)
"""How models open and close their thoughts."""

OPENERS = tuple(opener for opener, _ in MARKERS)
CLOSERS = tuple(closer for _, closer in MARKERS)
_MARKER = re.compile("|".join(re.escape(marker) for marker in (*OPENERS, *CLOSERS)), re.IGNORECASE)
_OPENERS_LOWER = frozenset(opener.lower() for opener in OPENERS)


def split_reasoning(text: str, *, opened_in_prompt: bool = False) -> tuple[str, str | None]:
    """Return `(answer, reasoning)` of what a model wrote. Text without a mark of thinking comes back unchanged.

    A thought ends where it is closed, or with the text: a model that was cut while it thought has no answer. A closing
    mark alone means that the thought began before the text. Several thoughts are joined by a line break. Marks are
    taken in pairs of depth one: an opening mark inside a thought is a part of it.

    Args:
        text: as the model wrote it, marks included.
        opened_in_prompt: the chat template has opened the thought already, so that the text begins inside it.
    """
    marks = list(_MARKER.finditer(text))
    if not marks and not opened_in_prompt:
        return text, None

    thinking = opened_in_prompt or not _opens(marks[0])
    answer: list[str] = []
    thoughts: list[str] = []
    position = 0
    for mark in marks:
        if _opens(mark) and thinking and text[position : mark.start()].strip():
            continue  # words about the mark itself, not a second thought
        (thoughts if thinking else answer).append(text[position : mark.start()])
        position, thinking = mark.end(), _opens(mark)
    (thoughts if thinking else answer).append(text[position:])

    reasoning = "\n".join(thought.strip() for thought in thoughts if thought.strip())
    return "".join(answer).strip(), reasoning or None


def prompt_opens_reasoning(prompt: str) -> bool:
    """Tell whether a rendered prompt ends inside a thought, as the templates of thinking-only models do."""
    return prompt.rstrip().lower().endswith(tuple(_OPENERS_LOWER))


def _opens(mark: re.Match[str]) -> bool:
    return mark[0].lower() in _OPENERS_LOWER
