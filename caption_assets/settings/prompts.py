"""The built-in prompts. Their text is part of every caption recipe, by hash; change a text and its version together.

`default` asks for what is seen and the story told. `av` asks what matters to a driver, through a dash camera.
`av-surveillance` asks the same of a fixed camera.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Prompt:
    """A prompt as it is sent. `name` and `version` are for people; identity is the text's hash."""

    name: str
    version: int
    text: str

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the text: what the ledger's table `prompts` is keyed by."""
        return hashlib.sha256(self.text.encode()).hexdigest()


CAPTION_PROMPTS: Mapping[str, Prompt] = {
    prompt.name: prompt
    for prompt in (
        Prompt(
            "default",
            1,
            "Describe this video in detail. Say what can be seen: the place, the people, animals and objects, how they "
            "look and what they do, the light, the colours and the way the camera moves. Then tell what happens from "
            "the beginning to the end. Write plain prose and state only what the pictures show.",
        ),
        Prompt(
            "av",
            1,
            "This video was filmed by a dash camera. Describe what matters for driving, in the order in which it "
            "happens: how the own vehicle moves (speed, turns, lane changes, stops); how other vehicles move and where "
            "they are relative to it; where pedestrians and cyclists are and what they do; lane markings, traffic "
            "signs and the state of traffic lights; aggressive or unsafe driving; road surface, weather and light; "
            "landmarks. State only what the pictures show.",
        ),
        Prompt(
            "av-surveillance",
            1,
            "This video was filmed by a fixed camera that watches a road. Describe what matters for safety, in the "
            "order in which it happens: vehicles, how they move and where; where pedestrians and cyclists are and what "
            "they do; lane markings, traffic signs and the state of traffic lights; aggressive or unsafe driving and "
            "near misses; road surface, weather and light; landmarks. State only what the pictures show.",
        ),
    )
}

ENHANCE_PROMPTS: Mapping[str, Prompt] = {
    prompt.name: prompt
    for prompt in (
        Prompt(
            "default",
            1,
            "You rewrite captions of videos. Write a richer and longer version of the caption you are given: more "
            "vivid, with the colours and details it names brought out. Add no object, place, name, number or event "
            "that it does not contain. Answer with the caption alone.",
        ),
        Prompt(
            "av-surveillance",
            1,
            "You rewrite captions of videos from dash cameras and surveillance cameras. Write a richer and longer "
            "version of the caption you are given: keep every movement of vehicles, pedestrians and cyclists, every "
            "sign and light, and end with one sentence that sums up what matters for safety. Add no object, place, "
            "name, number or event that it does not contain. Answer with the caption alone.",
        ),
    )
}


JUDGE_PROMPT = Prompt(
    "judge",
    1,
    "Here are two captions of this video.\n\nA: {first}\n\nB: {second}\n\nWhich one describes better what the pictures "
    "show? Prefer the one that says nothing that is not there; of two that are true, the one that says more. Answer "
    "with one letter, A or B.",
)

STAGE2_PROMPT = "Please refine this caption: "


def choose_prompt(variants: Mapping[str, Prompt], variant: str, text: str | None) -> Prompt:
    """Return the prompt to send: `text` whenever it is set, also "", else the built-in `variant`.

    Raises:
        KeyError: for an unknown variant; settings refuse it earlier with the list of known ones.
    """
    return variants[variant] if text is None else Prompt("custom", 1, text)
