"""The engine `openai`: any OpenAI-compatible server or router, or several of them.

`engine` sends requests through the official client, `servers` picks a server for each attempt, `chat` writes request
bodies and reads answers. This module tells what the engine is without importing the client.
"""

import importlib.util
from urllib.parse import urlsplit

from caption_assets.engines.protocol import Engine, EngineIdentity, EngineSpec, EngineUnavailable

CODE_VERSION = "1"
"""To be raised whenever the same request may be put differently to a server."""


def missing() -> str | None:
    """Return what must be installed for this engine, None if nothing is missing."""
    if importlib.util.find_spec("openai") is not None:
        return None
    return "the package openai is not installed; pip install 'caption_assets[openai]'"


def identify(spec: EngineSpec) -> EngineIdentity:
    """Return the identity of what makes a caption, without asking a server.

    Servers report neither their version nor the commit of their weights: engine_version is that of this code, and the
    revision is the one in the settings, else `served`.

    Raises:
        EngineUnavailable: the engine cannot apply a setting.
    """
    _check(spec)
    names = ("model_does_preprocess", "frames_as") if spec.purpose == "caption" else ()
    return EngineIdentity("openai", CODE_VERSION, spec.model, spec.stage.revision or "served", spec.options(*names))


def load(spec: EngineSpec) -> Engine:
    """Return an engine, which connects to servers when it has something to send.

    Raises:
        EngineUnavailable: the engine cannot apply a setting, or the client is not installed.
    """
    _check(spec)
    from caption_assets.engines.openai.engine import OpenAIEngine

    return OpenAIEngine(spec)


def _check(spec: EngineSpec) -> None:
    if (reason := missing()) is not None:
        raise EngineUnavailable(f"engine openai: {reason}")
    if rejected := spec.options("fp8", "preprocess_dtype", "engine_kwargs"):
        raise EngineUnavailable(
            f"the engine openai cannot apply {rejected}: whoever starts the server decides that (vllm serve "
            "--quantization, --dtype ...); remove these settings"
        )
    for url in spec.server.base_urls:
        parts = urlsplit(url)
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise EngineUnavailable(
                f"openai.base_urls: {parts.scheme}://{parts.hostname}{parts.path} must hold no password and no query; "
                f"put the key into the environment variable {spec.server.api_key_env}"
            )
