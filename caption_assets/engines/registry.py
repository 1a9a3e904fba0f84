"""Which engines there are, how `auto` chooses, and how one is loaded.

An engine's identity is known without loading it, so that a run with nothing to do never loads a model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from caption_assets.engines.openai.engine import OpenAIEngine
from caption_assets.engines.openai.engine import identity as openai_identity
from caption_assets.engines.protocol import Engine, EngineIdentity, EngineSpec
from caption_assets.engines.signal import SignalEngine
from caption_assets.engines.transformers import TransformersEngine
from caption_assets.engines.transformers import identify as identify_transformers

AUTO = "auto"


class UnknownEngine(ValueError):
    """There is no engine of that name. The message lists the ones there are."""


@dataclass(frozen=True)
class EngineEntry:
    """An engine of this version.

    identify: the identity of what a spec would load, without loading it.
    load: the engine, which imports what it needs only then.
    exclusive: it fills a device, so that no other such engine may be loaded beside it.
    text_from_frames: enhancement needs the window's frames, since the engine has no language model.
    """

    name: str
    description: str
    identify: Callable[[EngineSpec], EngineIdentity]
    load: Callable[[EngineSpec], Engine]
    text_from_frames: bool = False
    exclusive: bool = False


ENGINES: Mapping[str, EngineEntry] = {
    "signal": EngineEntry(
        name="signal",
        description="embedded; says what it measures in the pixels; no model, no GPU, no download",
        identify=lambda _: SignalEngine.identity(),
        load=lambda _: SignalEngine(),
        text_from_frames=True,
    ),
    "openai": EngineEntry(
        name="openai",
        description="any OpenAI-compatible server or router, or several of them; openai.base_urls says where",
        identify=openai_identity,
        load=OpenAIEngine,
    ),
    "transformers": EngineEntry(
        name="transformers",
        description="a model in this process through Hugging Face Transformers, one caption at a time",
        identify=identify_transformers,
        load=TransformersEngine,
        exclusive=True,
    ),
}


def choose_engine(name: str) -> EngineEntry:
    """Return the engine called `name`; `auto` is the best one that this version has for this machine.

    Raises:
        UnknownEngine: there is none of that name.
    """
    if name == AUTO:
        return ENGINES["signal"]
    try:
        return ENGINES[name]
    except KeyError:
        raise UnknownEngine(
            f"engine {name!r} is not in this version; available: {AUTO}, {', '.join(ENGINES)}"
        ) from None
