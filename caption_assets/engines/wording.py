"""Say measurements in English: a caption, a refined caption, a fuller paragraph.

Every text is a pure function of `WindowMeasurements` and a seed. The seed chooses between ways of saying a thing,
never between things to be true: the main facts (`fact_words`) are in every text, in the same words. Nothing here can
name an object; the vocabulary holds light, colours, motion, camera and cuts.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from caption_assets.engines.measure import (
    Camera,
    CameraMove,
    ColourShare,
    Place,
    Shot,
    Third,
    Transition,
    WindowMeasurements,
)

MotionWord = Literal["still", "slight", "moderate", "strong"]

# Mean luma, 0 to 255. Photographic mid grey is 118 (18 % reflectance in sRGB): about it a picture is moderately lit.
DARK_BELOW = 45
DIM_BELOW = 100
BRIGHT_FROM = 160
LIGHT_CHANGE = 18  # luma levels between the ends of a shot, or between two shots, that the eye sees as a change
HIGHLIGHTS_FROM = 3  # percent of the pixels of a dim or dark picture

# Hasler & Süsstrunk's scale: 0 not, 15 slightly, 33 moderately, 45 averagely, 59 quite, 82 highly colourful.
COLOURLESS_BELOW = 5
MUTED_BELOW = 33
VIVID_FROM = 82

LOW_CONTRAST_BELOW = 30  # standard deviation of luma; evenly spread luma has 74
HIGH_CONTRAST_FROM = 64
SMOOTH_BELOW = 4  # mean gradient, levels per pixel
DETAILED_FROM = 12

# Percent of the picture that moves between two samples.
STILL_BELOW = 0.5
SLIGHT_BELOW = 4.0
MODERATE_BELOW = 15.0
SLOW_CHANGE = 2.0  # percent changed from a shot's first to its last sample: slow motion, not stillness
PEAK_OVER_MEAN = 1.6
PEAK_MIN = 4.0
PEAK_MIN_SAMPLES = 5

COLOUR_MIN = 12  # percent of the picture from which a colour is named in a caption
COLOURS_MAX = 3
COLOUR_MIN_ENHANCED = 2
COLOURS_MAX_ENHANCED = 6
NEARLY_ALL = 90  # percent
TRANSITIONS_MAX = 4  # more are counted, not listed
SHOTS_MAX = 4

ORDINALS = ("first", "second", "third", "fourth")

PLACES: dict[Place, tuple[str, ...]] = {
    "upper left": ("in the upper left", "in the upper left of the picture", "towards the upper left"),
    "left": ("on the left", "on the left of the picture", "towards the left edge"),
    "lower left": ("in the lower left", "in the lower left of the picture", "towards the lower left"),
    "top": ("along the top", "in the top third", "near the top of the picture"),
    "centre": ("in the centre", "in the centre of the picture", "around the centre"),
    "bottom": ("along the bottom", "in the bottom third", "near the bottom of the picture"),
    "upper right": ("in the upper right", "in the upper right of the picture", "towards the upper right"),
    "right": ("on the right", "on the right of the picture", "towards the right edge"),
    "lower right": ("in the lower right", "in the lower right of the picture", "towards the lower right"),
    "left half": ("in the left half", "mostly in the left half", "in the left half of the picture"),
    "right half": ("in the right half", "mostly in the right half", "in the right half of the picture"),
    "upper half": ("in the upper half", "mostly in the upper half", "in the upper half of the picture"),
    "lower half": ("in the lower half", "mostly in the lower half", "in the lower half of the picture"),
    "everywhere": ("all over the picture", "across the whole picture", "throughout the picture"),
}


# --- words ------------------------------------------------------------------------------------------------------------


def light_word(light: int) -> str:
    """Return the word for a mean luma of 0 to 255."""
    if light < DARK_BELOW:
        return "dark"
    if light < DIM_BELOW:
        return "dim"
    return "moderately lit" if light < BRIGHT_FROM else "bright"


def colour_word(colourfulness: int) -> str:
    """Return the word for a value of Hasler & Süsstrunk's metric."""
    if colourfulness < COLOURLESS_BELOW:
        return "black-and-white"
    if colourfulness < MUTED_BELOW:
        return "muted"
    return "colourful" if colourfulness < VIVID_FROM else "vivid"


def contrast_word(contrast: int) -> str:
    """Return the word for a standard deviation of luma (0 to 127)."""
    if contrast < LOW_CONTRAST_BELOW:
        return "low"
    return "medium" if contrast < HIGH_CONTRAST_FROM else "high"


def motion_word(motion: float, change: float | None = None) -> MotionWord:
    """Return the word for a share of the picture that moves (percent); `change` over the shot unmasks slow motion."""
    if motion < STILL_BELOW:
        return "slight" if change is not None and change >= SLOW_CHANGE else "still"
    if motion < SLIGHT_BELOW:
        return "slight"
    return "moderate" if motion < MODERATE_BELOW else "strong"


def fact_words(measured: WindowMeasurements) -> tuple[str, ...]:
    """Return the words that every complete text about these measurements contains."""
    words = [light_word(measured.light), colour_word(measured.colourfulness)]
    words += [colour.name for colour in _main_colours(measured)]
    words += [word for word, _ in _motions(measured)]
    for moves, _ in _cameras(measured):
        words += [part for move in moves for part in move.split()]
    words += [transition.kind for transition in measured.transitions[:TRANSITIONS_MAX]]
    return tuple(dict.fromkeys(words))


def _main_colours(measured: WindowMeasurements) -> tuple[ColourShare, ...]:
    named = tuple(colour for colour in measured.colours if colour.percent >= COLOUR_MIN)
    return named[:COLOURS_MAX] or measured.colours[:1]


def _motions(measured: WindowMeasurements) -> tuple[tuple[MotionWord, str], ...]:
    """Return (word, when) of the motion: one entry, or one for each side of a single cut when they differ."""
    if measured.motion is None:
        return ()
    by_shot = [(motion_word(shot.motion, shot.change), _when(measured, index)) for index, shot in _moving(measured)]
    words = {word for word, _ in by_shot}
    if len(by_shot) == 2 and len(words) == 2:
        return tuple(by_shot)
    if len(words) == 1:
        return ((by_shot[0][0], ""),)
    changes = [shot.change for _, shot in _moving(measured) if shot.change is not None]
    return ((motion_word(measured.motion, max(changes, default=None)), ""),)


def _moving(measured: WindowMeasurements) -> list[tuple[int, Shot]]:
    """Return the shots with at least two samples; a single sample shows no motion."""
    return [(index, shot) for index, shot in enumerate(measured.shots) if shot.samples > 1]


def _cameras(measured: WindowMeasurements) -> tuple[tuple[tuple[CameraMove, ...], str], ...]:
    """Return (moves, when) of the shots whose camera is known; one entry without a time when all shots agree."""
    known = [(shot.camera.moves, index) for index, shot in enumerate(measured.shots) if shot.camera is not None]
    if len(known) == len(measured.shots) and len({moves for moves, _ in known}) == 1:
        return ((known[0][0], ""),)
    if len(measured.shots) > SHOTS_MAX:
        return ()
    return tuple((moves, _when(measured, index)) for moves, index in known)


def _when(measured: WindowMeasurements, shot: int) -> str:
    if len(measured.shots) == 1:
        return ""
    if len(measured.shots) == 2:
        kind = next(t.kind for t in measured.transitions if t.kind in ("cut", "dissolve"))
        return f"{('before', 'after')[shot]} the {kind}"
    return f"in the {ORDINALS[shot]} shot" if shot < len(ORDINALS) else "later on"


# --- small grammar ----------------------------------------------------------------------------------------------------


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _seconds(value: float) -> str:
    return "1 second" if value == 1 else f"{_number(value)} seconds"


def _joined(parts: Sequence[str]) -> str:
    """Join with commas and a final "and"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _middle(transition: Transition) -> str:
    return _seconds(round((transition.start_s + transition.end_s) / 2, 1))


# --- sentences --------------------------------------------------------------------------------------------------------


def _opening(measured: WindowMeasurements, draw: random.Random) -> str:
    """Say length, light and colours."""
    light, colour = light_word(measured.light), colour_word(measured.colourfulness)
    names = [share.name for share in _main_colours(measured)]
    nearly_all = measured.colours[0].percent >= NEARLY_ALL
    colours = _joined(names)
    mostly = draw.choice(("almost entirely",) if nearly_all else ("mostly", "mainly", "chiefly", "largely"))
    look = draw.choice((f"{light}, {colour}", f"{colour}, {light}"))
    both = draw.choice((f"{light} and {colour}", f"{colour} and {light}"))
    thing = draw.choice(("clip", "video", "recording", "shot" if len(measured.shots) == 1 else "sequence"))
    if measured.samples == 1:
        return draw.choice(
            (
                f"a single {look} frame, {mostly} {colours}",
                f"the one frame is {both}, {mostly} {colours}",
                f"a single frame shows a {look} picture, {mostly} {colours}",
            )
        )
    length, adjective = _seconds(measured.duration_s), f"{_number(measured.duration_s)}-second"
    many = len(names) > 1
    templates = [
        f"a {look} {adjective} {thing}, {mostly} {colours}",
        f"a {look} {thing} of {length}, {mostly} {colours}",
        f"{length} of {look} {draw.choice(('video', 'footage'))}, {mostly} in {colours}",
        f"this {adjective} {thing} is {both}, {mostly} {colours}",
        f"for {length} the picture is {both}, {mostly} {colours}",
        f"over {length} the picture stays {mostly} {colours} and looks {both}",
        f"the picture is {both} for {length}, coloured {mostly} {colours}",
    ]
    if not nearly_all:
        templates += [
            f"{colours} {'dominate' if many else 'dominates'} this {look} {adjective} {thing}",
            f"{colours} {'are the main colours' if many else 'is the main colour'} of a {look} {thing} of {length}",
            f"the {thing} lasts {length} and is {both}, with {colours} as its main {'colours' if many else 'colour'}",
        ]
    return draw.choice(templates)


def _action(measured: WindowMeasurements, draw: random.Random) -> str:
    """Say camera and motion, empty when there is nothing to say."""
    motions, cameras = _motions(measured), _cameras(measured)
    if not motions:
        return _camera_clause(cameras) if cameras else ""
    noun = draw.choice(("motion", "movement"))
    place = f" {draw.choice(PLACES[measured.place])}" if measured.place and len(motions) == 1 else ""
    if all(word == "still" for word, _ in motions):
        return _still(cameras, draw)
    if any(word == "still" for word, _ in motions):
        quiet = next(when for word, when in motions if word == "still")
        moving = next(f"{word} {noun} {when}" for word, when in motions if word != "still")
        shown = draw.choice(
            (
                f"the picture is still {quiet} and shows {moving}",
                f"the picture is still {quiet}, with {moving}",
                f"there is {moving}, while {quiet} the picture is still",
            )
        )
        return f"{_camera_clause(cameras)}; {shown}" if cameras else shown
    amounts = _joined([f"{word} {noun} {when}".strip() for word, when in motions])
    amount = amounts + place
    there = draw.choice((f"there is {amount}", f"the picture shows {amount}", f"{amount} can be seen"))
    if not cameras:
        return draw.choice((there, f"{amount} is visible" if " and " not in amount else there, f"we see {amount}"))
    if cameras == ((("static",), ""),):
        return draw.choice(
            (
                f"the camera is static and {there}",
                f"a static camera shows {amount}",
                f"{amount} {'are' if ' and ' in amounts else 'is'} seen by a static camera",
                f"while the camera stays static, {there}",
                f"with the camera static, {there}",
                f"the camera stays static, with {amount}",
            )
        )
    camera = _camera_clause(cameras)
    return draw.choice(
        (
            f"{camera}, and {there}",
            f"{camera}, with {amount}",
            f"{there}, and {camera}",
            f"{there}; {camera}",
            f"{camera}; {there}",
        )
    )


def _camera_clause(cameras: Sequence[tuple[tuple[CameraMove, ...], str]]) -> str:
    verbs = [
        f"{_joined([f'is {move}' if move in ('static', 'unsteady') else move for move in moves])} {when}".strip()
        for moves, when in cameras
    ]
    return f"the camera {_joined(verbs)}"


def _still(cameras: Sequence[tuple[tuple[CameraMove, ...], str]], draw: random.Random) -> str:
    if not cameras:
        return draw.choice(
            ("the picture stays still", "nothing moves and the picture is still", "the picture is still throughout")
        )
    if cameras == ((("static",), ""),):
        return draw.choice(
            (
                "the camera is static and the picture stays still",
                "a static camera shows a still picture",
                "the picture is still and the camera static",
                "seen by a static camera, the picture remains still",
                "nothing moves: the camera is static and the picture still",
                "with a static camera, the picture is still throughout",
            )
        )
    camera = _camera_clause(cameras)
    templates = [
        f"{camera}, while all else stays still",
        f"{camera}, and apart from that the picture is still",
        f"apart from the camera's own movement the picture is still: {camera}",
    ]
    if " is " not in camera:
        templates += [f"{camera} over an otherwise still picture", f"{camera} across an otherwise still picture"]
    return draw.choice(templates)


def _changes(measured: WindowMeasurements, draw: random.Random) -> str:
    """Say cuts and fades, empty without any."""
    transitions = measured.transitions
    if not transitions:
        return ""
    cuts = [transition for transition in transitions if transition.kind == "cut"]
    if len(transitions) > TRANSITIONS_MAX:
        rest = sorted({transition.kind for transition in transitions[:TRANSITIONS_MAX]} - {"cut"})
        others = f", and there is a {_joined(rest)}" if rest else ""
        if not cuts:
            return f"the picture changes {len(transitions)} times{others}"
        first, last = _middle(cuts[0]), _middle(cuts[-1])
        return f"there are {len(cuts)} cuts between about {first} and {last}{others}"
    clauses = [_cuts_clause(cuts, draw)] if len(cuts) > 1 else []
    clauses += [_transition_clause(other, draw) for other in transitions if len(cuts) == 1 or other.kind != "cut"]
    return _joined(clauses)


def _cuts_clause(cuts: Sequence[Transition], draw: random.Random) -> str:
    at = f"{_joined([_middle(cut).split()[0] for cut in cuts])} seconds"
    return draw.choice((f"there are cuts at about {at}", f"cuts come at about {at}", f"the picture cuts at about {at}"))


def _transition_clause(transition: Transition, draw: random.Random) -> str:
    at = _middle(transition)
    if transition.kind in ("cut", "dissolve"):
        name = (
            f"a hard {transition.kind}" if transition.kind == "cut" and draw.random() < 0.3 else f"a {transition.kind}"
        )
        return draw.choice(
            (
                f"there is {name} at about {at}",
                f"{name} comes about {at} in",
                f"{name} follows after about {at}",
                f"about {at} in, {name} changes the picture",
            )
        )
    start, end = _number(transition.start_s), _seconds(transition.end_s)
    return draw.choice(
        (
            f"there is a {transition.kind} from {start} to {end}",
            f"a {transition.kind} takes place between {start} and {end}",
            f"between {start} and {end} there is a {transition.kind}",
        )
    )


@dataclass(frozen=True)
class Extra:
    """A fact beyond the main ones: `marks` are the words that show that a text already says it."""

    marks: tuple[str, ...]
    sentences: tuple[str, ...]

    def said_in(self, text: str) -> bool:
        """Tell whether `text` already holds the fact."""
        return any(mark in text.lower() for mark in self.marks)


def extras(measured: WindowMeasurements) -> tuple[Extra, ...]:
    """Return the further facts, the most telling first."""
    found = [*_light_extras(measured), *_time_extras(measured)]
    if measured.bars:
        where = {"above and below": "above and below", "left and right": "to the left and right of"}[measured.bars]
        found.append(
            Extra(("black bars",), (f"there are black bars {where} the picture", f"black bars lie {where} the picture"))
        )
    top = [f"{share.name} about {share.percent}%" for share in _main_colours(measured)]
    covers = _joined([f"{top[0].replace(' about', ' covers about')} of the picture", *top[1:]])
    found.append(Extra(("covers about", "by area"), (covers, f"by area, {_joined(top)} of the picture")))
    contrast = contrast_word(measured.contrast)
    found.append(
        Extra(("contrast",), (f"contrast is {contrast}", f"the contrast is {contrast}", f"it has {contrast} contrast"))
    )
    found.append(Extra(("detail",), _detail_sentences(measured.detail)))
    if measured.samples > 1:
        number = measured.samples
        found.append(
            Extra(("sampled",), (f"{number} frames were sampled", f"this is read from {number} sampled frames"))
        )
    return tuple(found)


def _light_extras(measured: WindowMeasurements) -> list[Extra]:
    found: list[Extra] = []
    shots = measured.shots
    fades = any("fade" in transition.kind for transition in measured.transitions)
    if len(shots) == 1 and not fades and abs(shots[0].light_change) >= LIGHT_CHANGE:
        word = "brighter" if shots[0].light_change > 0 else "darker"
        found.append(
            Extra(("brighter", "darker"), (f"the picture gets {word} over time", f"it grows {word} towards the end"))
        )
    if len(shots) == 2 and abs(shots[1].light - shots[0].light) >= LIGHT_CHANGE:
        word = "brighter" if shots[1].light > shots[0].light else "darker"
        when = _when(measured, 1)
        found.append(Extra(("brighter", "darker"), (f"the picture is {word} {when}", f"{when} the picture is {word}")))
    if measured.light < DIM_BELOW and measured.highlights >= HIGHLIGHTS_FROM:
        percent = measured.highlights
        found.append(
            Extra(
                ("highlights",),
                (
                    f"bright highlights take up about {percent}% of the picture",
                    f"there are bright highlights on about {percent}% of the picture",
                ),
            )
        )
    return found


def _time_extras(measured: WindowMeasurements) -> list[Extra]:
    found: list[Extra] = []
    if _has_peak(measured):
        at = _seconds(measured.motion_peak_s)
        found.append(
            Extra(
                ("strongest", "peaks"),
                (
                    f"the motion is strongest at about {at}",
                    f"the motion peaks about {at} in",
                    f"about {at} in, the motion is at its strongest",
                ),
            )
        )
    for span in measured.freezes[:1]:
        start, end = _number(span.start_s), _seconds(span.end_s)
        found.append(
            Extra(
                ("freezes", "frozen"),
                (f"the picture freezes from {start} to {end}", f"between {start} and {end} the picture is frozen"),
            )
        )
    return found


def _has_peak(measured: WindowMeasurements) -> bool:
    return (
        measured.motion is not None
        and measured.samples >= PEAK_MIN_SAMPLES
        and measured.motion_peak >= max(PEAK_MIN, PEAK_OVER_MEAN * measured.motion)
    )


def _detail_sentences(detail: int) -> tuple[str, ...]:
    if detail < SMOOTH_BELOW:
        return ("the picture is smooth, with little detail", "there is little fine detail")
    if detail < DETAILED_FROM:
        return ("there is a moderate amount of detail", "the picture is moderately detailed")
    return ("the picture is full of fine detail", "there is much fine detail")


# --- texts ------------------------------------------------------------------------------------------------------------


def describe(measured: WindowMeasurements, seed: int) -> str:
    """Return a caption of two or three sentences (one for a single frame): the main facts and at times one more."""
    draw = random.Random(seed)
    opening, action, changes = _opening(measured, draw), _action(measured, draw), _changes(measured, draw)
    further = draw.choice(extras(measured)[:4])
    extra = draw.choice(further.sentences)
    order = [opening, action] if draw.random() < 0.65 else [action, opening]
    last = changes or (extra if draw.random() < 0.75 else "")
    return " ".join(_sentence(text) for text in [*order, last] if text)


def refine(measured: WindowMeasurements, first_caption: str, seed: int) -> str:
    """Return the facts of `first_caption` in a settled order, and one that it left out.

    Only facts that are measured here are taken over; whatever else the first caption claims cannot be checked.
    """
    draw = random.Random(seed)
    further = extras(measured)
    said = [extra for extra in further if extra.said_in(first_caption)]
    left_out = [extra for extra in further if extra not in said][:1]
    texts = [_opening(measured, draw), _action(measured, draw), _changes(measured, draw)]
    texts += [draw.choice(extra.sentences) for extra in (*said, *left_out)]
    return " ".join(_sentence(text) for text in texts if text)


def enhance(measured: WindowMeasurements, seed: int) -> str:
    """Return a paragraph with the caption's facts, their numbers and their course over time."""
    draw = random.Random(seed)
    texts = [*_length_and_light(measured, draw), *_colour_numbers(measured, draw), _action(measured, draw)]
    texts += [*_motion_numbers(measured), *_camera_numbers(measured), _changes(measured, draw)]
    if measured.samples >= 3:
        texts.append(_timeline(measured, draw))
    said = " ".join(texts)
    texts += [draw.choice(extra.sentences) for extra in extras(measured) if not extra.said_in(said)]
    return " ".join(_sentence(text) for text in texts if text)


def _length_and_light(measured: WindowMeasurements, draw: random.Random) -> list[str]:
    length, samples = _seconds(measured.duration_s), measured.samples
    word, light = light_word(measured.light), measured.light
    start = (
        "the clip is a single frame"
        if samples == 1
        else draw.choice(
            (
                f"the clip runs for {length}, measured on {samples} sampled frames",
                f"in {length}, {samples} frames were sampled",
                f"the recording is {length} long; {samples} frames of it were sampled",
            )
        )
    )
    spread = f", between {measured.light_low} and {measured.light_high}" if samples > 1 else ""
    mean = draw.choice(("a mean brightness of", "an average brightness of"))
    contrast = f"contrast is {contrast_word(measured.contrast)}"
    return [start, f"overall it is {word}, with {mean} {light} on a scale from 0 to 255{spread}; {contrast}"]


def _colour_numbers(measured: WindowMeasurements, draw: random.Random) -> list[str]:
    word = colour_word(measured.colourfulness)
    shares = [share for share in measured.colours if share.percent >= COLOUR_MIN_ENHANCED][:COLOURS_MAX_ENHANCED]
    listed = _joined([f"{share.name} {share.percent}%" for share in shares])
    lead = draw.choice(("by area the colours are", "the colours by area are", "the picture's colours by area are"))
    index = "" if word == "black-and-white" else f" (colourfulness index {measured.colourfulness}; 33 is moderate)"
    return [f"the picture is {word}{index}", f"{lead} {listed}"]


def _motion_numbers(measured: WindowMeasurements) -> list[str]:
    if measured.motion is None or measured.motion < STILL_BELOW:
        return []
    peak = f", at most {_number(measured.motion_peak)}% at about {_seconds(measured.motion_peak_s)}"
    strongest = ", when the motion is strongest" if _has_peak(measured) else ""
    return [f"on average {_number(measured.motion)}% of the picture changes from sample to sample{peak}{strongest}"]


def _camera_numbers(measured: WindowMeasurements) -> list[str]:
    texts = []
    for index, shot in enumerate(measured.shots[:SHOTS_MAX]):
        if shot.camera is not None and shot.camera.moves not in (("static",), ("unsteady",)):
            ways = _joined([_way(move, shot.camera) for move in shot.camera.moves])
            when = _when(measured, index) if len(measured.shots) > 1 else "from the first to the last sample"
            texts.append(f"{when} the view {ways}")
    return texts


def _way(move: CameraMove, camera: Camera) -> str:
    if move.startswith("pans"):
        return f"shifts to the {move.split()[1]} by {_number(abs(camera.pan))}% of the picture's longer side"
    if move.startswith("tilts"):
        return f"shifts {move.split()[1]} by {_number(abs(camera.tilt))}% of the picture's longer side"
    verb = "closes in" if move == "zooms in" else "widens"
    return f"{verb} by {_number(abs(camera.zoom))}%"


def _timeline(measured: WindowMeasurements, draw: random.Random) -> str:
    names = draw.choice(
        (
            ("in the first third", "in the middle", "towards the end"),
            ("at first", "in the middle third", "in the last third"),
            ("in the opening third", "around the middle", "in the closing third"),
        )
    )
    parts = [_third(third) for third in measured.thirds]
    if parts[0] == parts[1] == parts[2]:
        return f"from the beginning to the end the picture is {parts[0]}"
    if parts[0] == parts[1]:
        return f"{names[0]} and {names[1]} the picture is {parts[0]}; {names[2]} it is {parts[2]}"
    if parts[1] == parts[2]:
        return f"{names[0]} the picture is {parts[0]}; {names[1]} and {names[2]} it is {parts[1]}"
    return f"{names[0]} the picture is {parts[0]}; {names[1]} it is {parts[1]}; {names[2]} it is {parts[2]}"


def _third(third: Third) -> str:
    text = f"{light_word(third.light)} and mainly {third.colour}"
    if third.motion is None:
        return text
    word = motion_word(third.motion)
    # Slow motion does not show within a third, so what little there is is not denied here.
    amount = "hardly any motion" if word == "still" else f"{word} motion"
    return f"{text}, with {amount}"
