"""What vLLM is started with, and what of it is part of an identity."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caption_assets.engines import registry, vllm_arguments
from caption_assets.engines.families import InternVL, SmolVLM
from caption_assets.engines.protocol import EngineSpec, EngineUnavailable
from caption_assets.engines.registry import ENGINES, UnknownEngine, choose_engine
from caption_assets.engines.vllm_arguments import (
    check_arguments,
    check_family,
    engine_arguments,
    result_options,
    root_cause,
)
from caption_assets.settings.groups import MANAGED_KWARGS, CaptionSettings, EngineSettings, EnhanceSettings

KNOWN = ("max_model_len", "tensor_parallel_size", "quantization", "dtype")


def spec(engine: EngineSettings = EngineSettings(), **fields: Any) -> EngineSpec:  # noqa: B008 - frozen
    return EngineSpec(CaptionSettings(model="org/model", **fields), engine)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"quantization": "fp8"}, r"quantization is decided by fp8; take it out of vllm_kwargs"),
        ({"max_model_length": 1}, r"no such field; did you mean max_model_len\?"),
        ({"zzz": 1}, r"vllm_kwargs\.zzz: vLLM .* has no such field; its documentation"),
    ],
)
def test_a_field_that_is_managed_or_unknown_is_refused(kwargs: dict[str, Any], message: str):
    check_arguments({"max_model_len": 1}, MANAGED_KWARGS, KNOWN)
    with pytest.raises(EngineUnavailable, match=message):
        check_arguments(kwargs, MANAGED_KWARGS, KNOWN)


@pytest.mark.parametrize("version", ["0.26.0", "0.32.0", "1.0", "0.1.dev9+gabc", "unknown", None])
def test_smolvlm2_runs_where_vllm_reads_its_pictures_right(version: str | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vllm_arguments, "installed_version", lambda: version)
    check_family("org/model", SmolVLM(64, 512))


def test_smolvlm2_is_refused_where_vllm_reads_its_pictures_wrong(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vllm_arguments, "installed_version", lambda: "0.25.1")
    with pytest.raises(EngineUnavailable, match=r"^org/model: SmolVLM2 runs on vLLM 0\.26 and later, here is 0\.25\.1"):
        check_family("org/model", SmolVLM(64, 512))
    check_family("org/model", None)


def test_the_defaults_are_those_of_the_peers(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"max_position_embeddings": 262_144}}))
    made = engine_arguments(spec(), tmp_path, InternVL(256), on_cpu=False)
    assert made["gpu_memory_utilization"] == 0.85
    assert (made["max_model_len"], made["max_num_batched_tokens"]) == (32_768, 32_768)
    assert (made["mm_processor_cache_gb"], made["limit_mm_per_prompt"]) == (4, {"video": 1, "image": 0})
    assert "quantization" not in made


def test_settings_and_the_model_change_the_defaults(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 8192}))
    kwargs = {"gpu_memory_utilization": 0.5, "dtype": "float16"}
    changed = spec(EngineSettings(disable_mmcache=True), fp8=True, vllm_kwargs=kwargs)
    made = engine_arguments(changed, tmp_path, SmolVLM(64, 512), on_cpu=False)
    assert (made["quantization"], made["mm_processor_cache_gb"], made["max_model_len"]) == ("fp8", 0, 8192)
    assert (made["gpu_memory_utilization"], made["dtype"]) == (0.5, "float16")
    assert "limit_mm_per_prompt" not in made, "frames go as images"
    text = engine_arguments(EngineSpec(EnhanceSettings()), tmp_path, None, on_cpu=True)
    assert "mm_processor_cache_gb" not in text
    assert text["enforce_eager"] is True


def test_only_what_may_change_a_text_is_part_of_the_identity():
    assert result_options(spec(vllm_kwargs={"tensor_parallel_size": 4, "max_model_len": 9}, caption_batch_size=3)) == ""
    changed = spec(EngineSettings(model_does_preprocess=True), fp8=True, vllm_kwargs={"dtype": "float16", "seed": 3})
    assert json.loads(result_options(changed)) == {
        "fp8": True,
        "model_does_preprocess": True,
        "engine_kwargs": {"dtype": "float16"},
    }


DIED = """\
ERROR 2026-11-21 17:37:35,867 [vllm.v1.engine.core] EngineCore encountered a fatal error.
Traceback (most recent call last):
  File "core.py", line 1, in run_busy_loop
    self._process_engine_step()
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.18 GiB
ERROR 2026-11-21 17:37:36,867 [vllm.v1.engine.async_llm] AsyncLLM output_handler failed.
vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above).
"""


def test_the_first_exception_that_was_written_down_is_the_cause():
    assert str(root_cause(DIED)).startswith("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB")
    assert root_cause("WARNING 2026 [vllm] all is well\n") is None


@pytest.mark.parametrize(
    ("cuda", "missing", "chosen"), [(True, None, "vllm"), (True, "not installed", "signal"), (False, None, "signal")]
)
def test_auto_is_vllm_where_it_and_a_gpu_are_there(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, missing: str | None, chosen: str
):
    monkeypatch.setattr(registry, "has_cuda", lambda: cuda)
    entry = replace(ENGINES["vllm"], missing=lambda: missing)
    monkeypatch.setitem(registry.ENGINES, "vllm", entry)
    assert choose_engine("auto").name == chosen


@pytest.mark.parametrize(("cuda", "extra"), [(True, "gpu"), (False, "cpu")])
def test_an_engine_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch, cuda: bool, extra: str):
    monkeypatch.setattr(vllm_arguments, "installed_version", lambda: None)
    monkeypatch.setattr(vllm_arguments, "has_cuda", lambda: cuda)
    with pytest.raises(UnknownEngine, match=rf"engine vllm: vLLM is not installed; .*caption_assets\[{extra}\]"):
        choose_engine("vllm")
    with pytest.raises(EngineUnavailable, match="not installed"):
        ENGINES["vllm"].identify(spec())


def test_a_gpu_is_seen_by_its_device_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from caption_assets.engines import devices

    monkeypatch.setattr(devices, "DEVICES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "nvidiactl").touch()
    assert not devices.has_cuda()
    (tmp_path / "nvidia0").touch()
    assert devices.has_cuda()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not devices.has_cuda()
