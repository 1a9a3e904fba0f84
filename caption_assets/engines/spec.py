"""From settings to the models of a run: what captions, and what rewrites."""

from dataclasses import replace

from caption_assets.engines.protocol import EngineSpec, ServerOptions
from caption_assets.settings import Settings


def caption_spec(settings: Settings) -> EngineSpec:
    """Return the vision-language model and how it is run."""
    return EngineSpec(
        purpose="caption",
        model=settings.model,
        revision=settings.revision,
        model_dir=settings.model_dir,
        fp8=settings.fp8,
        preprocess_dtype=settings.preprocess_dtype,
        model_does_preprocess=settings.model_does_preprocess,
        disable_mmcache=settings.disable_mmcache,
        engine_kwargs=settings.vllm_kwargs,
        max_in_flight=settings.caption_batch_size or None,
        server=_servers(settings),
    )


def enhance_spec(settings: Settings) -> EngineSpec:
    """Return the text model and how it is run."""
    servers = _servers(settings)
    return EngineSpec(
        purpose="enhance",
        model=settings.enhance.model,
        revision=settings.enhance.revision,
        model_dir=settings.model_dir,
        fp8=settings.enhance.fp8,
        engine_kwargs=settings.enhance.vllm_kwargs,
        max_in_flight=settings.enhance.model_batch_size or None,
        server=replace(servers, base_urls=tuple(settings.enhance.base_urls) or servers.base_urls),
    )


def _servers(settings: Settings) -> ServerOptions:
    return ServerOptions(**{**settings.openai.model_dump(), "base_urls": tuple(settings.openai.base_urls)})
