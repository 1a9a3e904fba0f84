"""Which engines there are, how `auto` chooses, and how one is loaded.

An engine's identity is known without loading it, so that a run with nothing to do never loads a model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from caption_assets.engines.devices import has_cuda
from caption_assets.engines.protocol import Engine, EngineIdentity, EngineSpec
from caption_assets.settings.groups import MANAGED_KWARGS

AUTO = "auto"


class UnknownEngine(ValueError):
    """There is no engine of that name, or it cannot run here. The message says which can, or what is missing."""


@dataclass(frozen=True)
class EngineEntry:
    """An engine of this version.

    identify: the identity of what a spec would load, without loading it.
    load: the engine, which imports what it needs only then.
    missing: why it cannot run on this machine and what to install, None where it can; found out without loading it.
    exclusive: it fills a device, so that no other such engine may be loaded beside it.
    text_from_frames: enhancement needs the window's frames, since the engine has no language model.
    """

    name: str
    description: str
    identify: Callable[[EngineSpec], EngineIdentity]
    load: Callable[[EngineSpec], Engine]
    missing: Callable[[], str | None] = lambda: None
    text_from_frames: bool = False
    exclusive: bool = False


def _engine(module: str) -> Any:
    """Return a module of this folder, imported when it is first needed: commands that only ask need none."""
    return import_module(f"caption_assets.engines.{module}")


ENGINES: Mapping[str, EngineEntry] = {
    "signal": EngineEntry(
        name="signal",
        description="embedded; says what it measures in the pixels; no model, no GPU, no download",
        identify=lambda _: _engine("signal").SignalEngine.identity(),
        load=lambda _: _engine("signal").SignalEngine(),
        text_from_frames=True,
    ),
    "vllm": EngineEntry(
        name="vllm",
        description="vision-language and text models in this process, on a GPU or vLLM's CPU build",
        identify=lambda spec: _engine("vllm").identify(spec),
        load=lambda spec: _engine("vllm").VllmEngine(spec, MANAGED_KWARGS),
        missing=lambda: _engine("vllm_arguments").missing(),
        exclusive=True,
    ),
    "openai": EngineEntry(
        name="openai",
        description="any OpenAI-compatible server or router, or several of them; openai.base_urls says where",
        identify=lambda spec: _engine("openai").identify(spec),
        load=lambda spec: _engine("openai").load(spec),
        missing=lambda: _engine("openai").missing(),
    ),
    "transformers": EngineEntry(
        name="transformers",
        description="models in this process through Hugging Face Transformers, one caption at a time",
        identify=lambda spec: _engine("transformers").identify(spec),
        load=lambda spec: _engine("transformers").TransformersEngine(spec),
        missing=lambda: _engine("transformers").missing(),
        exclusive=True,
    ),
}


def choose_engine(name: str) -> EngineEntry:
    """Return the engine called `name`; `auto` is vllm where it and an NVIDIA GPU are there, else signal.

    Raises:
        UnknownEngine: there is none of that name, or what it needs is not installed.
    """
    if name == AUTO:
        return ENGINES["vllm" if has_cuda() and ENGINES["vllm"].missing() is None else "signal"]
    if name not in ENGINES:
        raise UnknownEngine(f"engine {name!r} is not in this version; available: {AUTO}, {', '.join(ENGINES)}")
    if (reason := ENGINES[name].missing()) is not None:
        raise UnknownEngine(f"engine {name}: {reason}")
    return ENGINES[name]
