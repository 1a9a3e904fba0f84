"""Settings: the defaults of the design, what is refused and how it is said, and who wins over whom."""

import json
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caption_assets.engines.protocol import EngineSpec
from caption_assets.settings import Settings, SettingsError, engine_assignment, setting_names
from caption_assets.settings.flat_names import FLAT_NAMES, FlatNameWarning
from caption_assets.settings.groups import WindowSettings

DEFAULTS: dict[str, dict[str, object]] = {  # those of other tools, where they have the same setting
    "clip": {"split": "none", "split_length_s": 10.0, "min_clip_length_s": 2.0, "max_clip_length_s": 60.0,
             "scene_threshold": 27.0},
    "window": {"window_size": 256, "remainder_threshold": 128, "sampling_fps": 2.0},
    "caption": {"model": "Qwen/Qwen3-VL-8B-Instruct", "revision": None, "prompt_variant": "default",
                "prompt_text": None, "prompt_key": None, "system_prompt": None, "caption_num": 1,
                "sampling_params": {"temperature": 0.1, "top_p": 0.001, "repetition_penalty": 1.05},
                "max_output_tokens": 512, "generate_stage2_caption": False,
                "stage2_prompt_text": "Please refine this caption: ", "frame_quality": 95, "fp8": False,
                "vllm_kwargs": {}},
    "retention": {"keep_candidate_mode": "random_any", "keep_original_sample": True},
    "enhance": {"enabled": True, "model": "Qwen/Qwen3-14B", "revision": None, "prompt_variant": "default",
                "prompt_text": None, "max_output_tokens": 512, "model_batch_size": 128, "fp8": False,
                "vllm_kwargs": {}, "base_urls": [], "on_drift": "fallback", "drift_min_length_ratio": 0.5,
                "drift_max_length_ratio": 5.0, "drift_max_lost": 0.5},
    "preview": {"target_fps": 1.0, "target_height": 240, "quality": 50, "compression_level": 4},
    "engine": {"model_dir": None, "preprocess_dtype": "uint8", "model_does_preprocess": False,
               "disable_mmcache": False},
}  # fmt: skip


def of(*assignments: str) -> Settings:
    return Settings.of({}).with_overrides(assignments)


@pytest.mark.parametrize("group", DEFAULTS)
def test_the_defaults_are_those_of_the_design(group: str) -> None:
    dumped = Settings().model_dump()[group]
    assert {name: dumped[name] for name in DEFAULTS[group]} == DEFAULTS[group]


def test_lengths_of_clips_that_no_split_can_keep_are_refused_where_they_matter() -> None:
    short, narrow = ("clip.split_length_s=1",), ("clip.max_clip_length_s=3.9",)
    of(*short, *narrow)  # files are not split
    with pytest.raises(
        SettingsError, match=r"split_length_s must not be below min_clip_length_s, which is 2 \(it is 1\)"
    ):
        of("clip.split=stride", *short)
    of("clip.split=stride", *narrow)
    with pytest.raises(
        SettingsError, match=r"max_clip_length_s must be at least twice .* allowed: 4 or more \(it is 3\.9\)"
    ):
        of("clip.split=scenes", *narrow)
    of("clip.split=scenes", *short, "clip.max_clip_length_s=4")


def test_every_setting_says_what_it_means() -> None:
    assert all(field.description for _, field in setting_names())


REFUSED = {
    "preview_format=mp4": "preview_format: previews are WebP; version 0.2 dropped AVIF and MP4 previews; remove this",
    'openai.base_urls=["gpu:8000"]': "openai.base_urls: 'gpu:8000' is not the address of a server; allowed: http://…",
    'openai.base_urls=["http://me:secret@gpu/v1"]': "http://gpu…: put the key into an environment variable",
    'enhance.base_urls=["http://gpu/v1?key=secret"]': "enhance.base_urls: http://gpu…: put the key into an",
    "preview_source=clip": "preview_source: previews show the sampled frames; version 0.2 no longer decodes a clip",
    "window.window_size=3": "window.window_size: out of range; allowed: 4 to 1000000 (it is 3)",
    "window.window_size=1000001": "window.window_size: out of range; allowed: 4 to 1000000 (it is 1000001)",
    "window.window_size=big": "window.window_size: must be a whole number; allowed: 4 to 1000000 (it is 'big')",
    "window.window_size=4.5": "window.window_size: must be a whole number; allowed: 4 to 1000000 (it is 4.5)",
    "window.window_size=": "window.window_size: must be a whole number; allowed: 4 to 1000000 (it is '')",
    "window.remainder_threshold=0": "window.remainder_threshold: out of range; allowed: 1 to 1000000 (it is 0)",
    "clip.split=scene": "clip.split: unknown value 'scene'; allowed: none, stride, scenes. Did you mean scenes?",
    "clip.split_length_s=0": "clip.split_length_s: out of range; allowed: above 0, up to 86400 (it is 0)",
    "clip.min_clip_length_s=-1": "clip.min_clip_length_s: out of range; allowed: 0 to 86400 (it is -1)",
    "clip.max_clip_length_s=0": "clip.max_clip_length_s: out of range; allowed: above 0, up to 86400 (it is 0)",
    "clip.scene_threshold=256": "clip.scene_threshold: out of range; allowed: above 0, up to 255 (it is 256)",
    "window.sampling_fps=0": "window.sampling_fps: out of range; allowed: above 0, up to 240 (it is 0)",
    "window.sampling_fps=241": "window.sampling_fps: out of range; allowed: above 0, up to 240 (it is 241)",
    "window.sampling_fps=NaN": "window.sampling_fps: must be a number; allowed: above 0, up to 240 (it is nan)",
    "clip.max_duration_s=Infinity": "clip.max_duration_s: must be a number; allowed: above 0 (it is inf)",
    "clip.max_frames=0": "clip.max_frames: out of range; allowed: 1 to 10000000 (it is 0)",
    "clip.max_streams=0": "clip.max_streams: out of range; allowed: 1 to 1000 (it is 0)",
    "decode.worker_memory_mb=100": "decode.worker_memory_mb: out of range; allowed: 1024 to 1048576 (it is 100)",
    "dedupe.mode=yes": "dedupe.mode: unknown value 'yes'; allowed: off, exact, near.",
    "dedupe.distance=0.3": "dedupe.distance: out of range; allowed: 0 to 0.25 (it is 0.3)",
    "caption.frame_quality=101": "caption.frame_quality: out of range; allowed: 1 to 100 (it is 101)",
    "caption.model=": "caption.model: out of range; allowed: any text but an empty one (it is '')",
    "caption.prompt_variant=AV": "caption.prompt_variant: unknown value 'AV'; allowed: default, av, av-surveillance.",
    "caption.caption_num=0": "caption.caption_num: out of range; allowed: 1 to 64 (it is 0)",
    "caption.caption_num=65": "caption.caption_num: out of range; allowed: 1 to 64 (it is 65)",
    "caption.max_output_tokens=0": "caption.max_output_tokens: out of range; allowed: 1 to 32768 (it is 0)",
    "caption.generate_stage2_caption=perhaps": (
        "caption.generate_stage2_caption: must be true or false (it is 'perhaps')"
    ),
    "retention.keep_candidate_mode=best": (
        "retention.keep_candidate_mode: policy is 'best'; allowed: random_any, similar_one_simhash"
    ),
    "retention.retention_seed=-1": "retention.retention_seed: out of range; allowed: 0 to 4294967295 (it is -1)",
    "retention.retention_seed=4294967296": "retention.retention_seed: out of range; allowed: 0 to 4294967295",
    "enhance.prompt_variant=av": "enhance.prompt_variant: unknown value 'av'; allowed: default, av-surveillance.",
    "enhance.on_drift=hide": "enhance.on_drift: unknown value 'hide'; allowed: keep, flag, fallback.",
    "enhance.drift_max_lost=1.1": "enhance.drift_max_lost: out of range; allowed: 0 to 1 (it is 1.1)",
    "enhance.max_output_tokens=0": "enhance.max_output_tokens: out of range; allowed: 1 to 32768 (it is 0)",
    "preview.target_fps=61": "preview.target_fps: out of range; allowed: above 0, up to 60 (it is 61)",
    "preview.target_height=15": "preview.target_height: out of range; allowed: 16 to 4320 (it is 15)",
    "preview.quality=101": "preview.quality: out of range; allowed: 0 to 100 (it is 101)",
    "preview.compression_level=7": "preview.compression_level: out of range; allowed: 0 to 6 (it is 7)",
    "clip.max_pixels=1": "clip.max_pixels: out of range; allowed: 4096 or more (it is 1)",
    "decode.clip_timeout_s=0": "decode.clip_timeout_s: out of range; allowed: above 0 (it is 0)",
    "decode.workers=-1": "decode.workers: out of range; allowed: 0 to 1024 (it is -1)",
    "preview.quality=null": "preview.quality: must be a whole number; allowed: 0 to 100 (it is None)",
    "caption.sampling_params=5": "caption.sampling_params: must be a table of names and values (it is 5)",
    "caption.sampling_params.temperature=2.1": (
        "caption.sampling_params: temperature: out of range; allowed: 0 to 2 (it is 2.1)"
    ),
    "caption.sampling_params.temperature=true": "temperature: must be a number; allowed: 0 to 2 (it is True)",
    "caption.sampling_params.top_p=0": "top_p: out of range; allowed: above 0, up to 1 (it is 0)",
    "caption.sampling_params.top_k=1.5": "top_k: must be a whole number; allowed: -1 or more (it is 1.5)",
    "caption.sampling_params.min_p=2": "min_p: out of range; allowed: 0 to 1 (it is 2)",
    "caption.sampling_params.repetition_penalty=0": (
        "repetition_penalty: out of range; allowed: above 0, up to 10 (it is 0)"
    ),
    "caption.sampling_params.presence_penalty=-3": "presence_penalty: out of range; allowed: -2 to 2 (it is -3)",
    "caption.sampling_params.seed=x": "seed: must be a whole number; allowed: 0 to 4294967295 (it is 'x')",
    "caption.sampling_params.stop=5": "stop: must be a text or a list of texts (it is 5)",
    "caption.sampling_params.ignore_eos=1": "ignore_eos: must be true or false (it is 1)",
    "caption.sampling_params.temprature=1": "temprature: no such setting. Did you mean temperature?",
    "widow_size=5": "widow_size: no such setting. Did you mean window.window_size?",
    "enhance.modle=x": "enhance.modle: no such setting. Did you mean enhance.model?",
    "zzz=1": "zzz: no such setting. Known: clip.split, ",
    "window.window_size": "window.window_size: write KEY=VALUE",
}


@pytest.mark.parametrize("assignment", REFUSED)
def test_a_wrong_value_is_refused_with_what_is_allowed(assignment: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        of(assignment)
    assert str(refusal.value).startswith("--set")
    assert REFUSED[assignment] in str(refusal.value)


def test_every_fault_of_a_document_has_its_line() -> None:
    with pytest.raises(SettingsError) as refusal:
        Settings.of({"window.window_size": 1, "enhance": {"nonsense": 1}, "preview.quality": "x"}, origin="a.toml")
    lines = str(refusal.value).split("\n")
    assert len(lines) == 3
    assert all(line.startswith("a.toml: ") for line in lines)


@pytest.mark.parametrize("name", [name for name, field in setting_names() if field.annotation in (int, float)])
def test_the_bounds_in_the_message_are_the_bounds_that_hold(name: str) -> None:
    field = dict(setting_names())[name]
    bounds = {key: getattr(rule, key) for rule in field.metadata for key in ("ge", "le", "gt") if hasattr(rule, key)}
    for bound in ("ge", "le"):
        if bound in bounds:
            of(f"{name}={bounds[bound]}")
    outside = bounds["ge"] - 1 if "ge" in bounds else bounds["gt"]
    with pytest.raises(SettingsError, match="allowed: "):
        of(f"{name}={outside}")


GIVEN: list[tuple[str, str, Any]] = [
    ("window.window_size=300", "window.window_size", 300),
    (" window.window_size =300", "window.window_size", 300),
    ("window.sampling_fps=1", "window.sampling_fps", 1.0),
    ("caption.prompt_text=true", "caption.prompt_text", "true"),
    ("caption.prompt_text=12", "caption.prompt_text", "12"),
    ("caption.prompt_text=null", "caption.prompt_text", None),
    ("caption.prompt_text=", "caption.prompt_text", ""),
    ("caption.prompt_text=a=b, {c}: \"d\" \\n 'e'", "caption.prompt_text", "a=b, {c}: \"d\" \\n 'e'"),
    ('caption.prompt_text="quoted"', "caption.prompt_text", '"quoted"'),
    ("caption.prompt_text= spaces ", "caption.prompt_text", " spaces "),
    ("caption.stage2_prompt_text=null", "caption.stage2_prompt_text", "null"),
    ("caption.system_prompt=Be brief.", "caption.system_prompt", "Be brief."),
    ("caption.model=123", "caption.model", "123"),
    ("caption.model=qwen", "caption.model", "Qwen/Qwen2.5-VL-7B-Instruct"),
    ("caption.model=qwen2.5", "caption.model", "Qwen/Qwen2.5-VL-7B-Instruct"),
    ("caption.model=qwen3", "caption.model", "Qwen/Qwen3-VL-8B-Instruct"),
    ("caption.model=someone/else", "caption.model", "someone/else"),
    ("retention.keep_candidate_mode=consensus > longest", "retention.keep_candidate_mode", "consensus > longest"),
    ("caption.generate_stage2_caption=true", "caption.generate_stage2_caption", True),
    ("caption.generate_stage2_caption=off", "caption.generate_stage2_caption", False),
    ('caption.sampling_params={"temperature": 1}', "caption.sampling_params", {"temperature": 1.0}),
    ("caption.sampling_params={}", "caption.sampling_params", {}),
]


@pytest.mark.parametrize(("assignment", "name", "value"), GIVEN)
def test_a_value_is_read_as_what_the_setting_is(assignment: str, name: str, value: object) -> None:
    assert attrgetter(name)(of(assignment)) == value


def test_the_text_model_may_have_servers_of_its_own() -> None:
    settings = of('openai.base_urls=["http://a/v1"]', "openai.timeout_s=7")
    assert EngineSpec.for_enhancement(settings).server == EngineSpec.for_captions(settings).server
    own = of('openai.base_urls=["http://a/v1"]', "openai.timeout_s=7", 'enhance.base_urls=["http://b/v1"]')
    assert EngineSpec.for_captions(own).server.base_urls == ["http://a/v1"]
    assert (EngineSpec.for_enhancement(own).server.base_urls, EngineSpec.for_enhancement(own).server.timeout_s) == (
        ["http://b/v1"],
        7,
    )


def test_a_dotted_name_reaches_into_a_group_and_leaves_the_rest() -> None:
    settings = of(
        "enhance.enabled=false",
        "enhance.prompt_text=",
        "caption.sampling_params.temperature=1",
        "caption.sampling_params.seed=7",
    )
    assert settings.enhance.enabled is False
    assert settings.enhance.prompt_text == ""
    assert settings.enhance.model == "Qwen/Qwen3-14B"
    assert settings.caption.sampling_params == {
        "temperature": 1.0,
        "top_p": 0.001,
        "repetition_penalty": 1.05,
        "seed": 7,
    }


@pytest.mark.parametrize(
    ("value", "field"),
    [("###", "stop"), (["a", "b"], "stop"), (20, "top_k"), (True, "ignore_eos"), ({"n": 3}, "repetition_detection")],
)
def test_sampling_fields_of_every_kind_are_taken(value: object, field: str) -> None:
    assert Settings.of({"caption.sampling_params": {field: value}}).caption.sampling_params == {field: value}


def test_the_last_of_two_assignments_wins() -> None:
    assert of("preview.quality=10", "preview.quality=20").preview.quality == 20


@pytest.mark.parametrize(
    ("values", "fine"),
    [
        ({"caption.caption_num": 2, "caption.sampling_params": {"temperature": 0}}, False),
        ({"caption.caption_num": 2, "caption.sampling_params": {"temperature": 0.0, "seed": 1}}, False),
        ({"caption.caption_num": 1, "caption.sampling_params": {"temperature": 0}}, True),
        ({"caption.caption_num": 2, "caption.sampling_params": {"temperature": 0.01}}, True),
        ({"caption.caption_num": 2, "caption.sampling_params": {}}, True),  # engines take 1 then
    ],
)
def test_several_candidates_need_a_temperature(values: dict[str, Any], fine: bool) -> None:
    if fine:
        assert Settings.of(values)
    else:
        with pytest.raises(SettingsError, match="caption_num above 1 needs temperature above 0"):
            Settings.of(values)


def test_settings_never_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().preview.quality = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("model", "factor"), [("qwen", 28), ("Qwen/Qwen2.5-VL-3B-Instruct", 28), ("qwen3", 32), ("x/y", 32)]
)
def test_the_model_family_says_how_frames_are_cut_into_tokens(model: str, factor: int) -> None:
    assert Settings.of({"caption.model": model}).caption.frame_factor == factor


def write(folder: Path, text: str) -> Path:
    (folder / "caption_assets.toml").write_text(text, encoding="utf-8")
    return folder


def test_without_a_file_the_defaults_count(tmp_path: Path) -> None:
    assert Settings.load(tmp_path) == Settings.of({})


def test_the_file_beats_the_defaults_and_an_assignment_beats_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'window.window_size = 300\npreview.quality = 7\n[caption]\nprompt_text = """two\nlines"""\n'
    text += "sampling_params = {temperature = 1}\n[enhance]\nenabled = false\n"
    monkeypatch.chdir(write(tmp_path, text))
    loaded = Settings.load()
    assert (loaded.window.window_size, loaded.preview.quality, loaded.caption.prompt_text) == (300, 7, "two\nlines")
    assert (loaded.enhance.enabled, loaded.enhance.model) == (False, "Qwen/Qwen3-14B")
    assert loaded.caption.sampling_params == {"temperature": 1.0}, "a table in the file is the whole table"
    assert loaded.window.remainder_threshold == 128
    final = loaded.with_overrides(["preview.quality=9", "enhance.model=x"])
    assert (final.preview.quality, final.window.window_size, final.enhance.enabled, final.enhance.model) == (
        9,
        300,
        False,
        "x",
    )


BAD_FILES = {
    "window.window_size = ": "not valid TOML",
    "window.window_size = 1": "window.window_size: out of range; allowed: 4 to 1000000 (it is 1)",
    "[enhance]\nnonsense = 1": "enhance.nonsense: no such setting.",
    "[enhanced]\nenabled = true": "enhanced: no such setting. Did you mean enhance",
    "enhance = 5": "enhance: ",
    "clip.max_duration_s = inf": "clip.max_duration_s: must be a number; allowed: above 0 (it is inf)",
    "caption.system_prompt = 5": "caption.system_prompt: must be a text or null (it is 5)",
}


@pytest.mark.parametrize("text", BAD_FILES)
def test_a_bad_file_is_named_with_its_fault(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        Settings.load(write(tmp_path, text))
    assert str(refusal.value).startswith(f"{tmp_path / 'caption_assets.toml'}: ")
    assert BAD_FILES[text] in str(refusal.value)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "caption_assets.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=r"caption_assets\.toml: not valid TOML"):
        Settings.load(tmp_path)


@given(st.text())
def test_any_text_is_a_prompt_word_for_word(text: str) -> None:
    if text != "null":
        assert of(f"caption.prompt_text={text}").caption.prompt_text == text


@pytest.mark.parametrize(
    ("argument", "name", "value"),
    [
        ("max-model-len=8192", "max_model_len", 8192),
        ("max_model_len=8192", "max_model_len", 8192),
        ("--max-model-len=8192", "max_model_len", 8192),
        ("enforce-eager=true", "enforce_eager", True),
        ("dtype=float16", "dtype", "float16"),
        ("gpu-memory-utilization=0.5", "gpu_memory_utilization", 0.5),
        ('compilation-config={"level": 3}', "compilation_config", {"level": 3}),
        ("load-format=", "load_format", ""),
        ("chat-template={{ a=b }}", "chat_template", "{{ a=b }}"),
    ],
)
def test_an_engine_argument_is_a_field_of_vllm_in_its_own_spelling(argument: str, name: str, value: object) -> None:
    chosen = of("caption.vllm_kwargs.seed=1", engine_assignment(argument))
    assert chosen.caption.vllm_kwargs == {"seed": 1, name: value}


@pytest.mark.parametrize("argument", ["max-model-len", "=1", "compilation-config.level=3", "a b=1", ""])
def test_an_engine_argument_that_names_no_field_is_refused(argument: str) -> None:
    with pytest.raises(SettingsError, match=f"^--engine-arg {argument}: write NAME=VALUE"):
        engine_assignment(argument)


@pytest.mark.parametrize("argument", ["max-num-seqs=4", "model=x", "mm-processor-cache-gb=0"])
def test_an_engine_argument_that_a_setting_decides_is_refused(argument: str) -> None:
    with pytest.raises(SettingsError, match="is decided by"):
        of(engine_assignment(argument))


FLAT = {
    "window_size": (300, "window.window_size"),
    "caption_num": (4, "caption.caption_num"),
    "dedupe_windows": ("near", "dedupe.mode"),
    "keep_candidate_mode": ("longest", "retention.keep_candidate_mode"),
    "workers": (3, "decode.workers"),
    "sampling_params": ({"temperature": 0.5}, "caption.sampling_params"),
}


@pytest.mark.parametrize("flat", FLAT)
def test_a_flat_name_still_sets_what_it_set_and_a_warning_has_the_new_name(tmp_path: Path, flat: str) -> None:
    value, name = FLAT[flat]
    document = f"{flat} = {{temperature = 0.5}}" if isinstance(value, dict) else f"{flat} = {json.dumps(value)}"
    ways: list[Callable[[], Settings]] = [
        lambda: of(f"{flat}={value if isinstance(value, str) else json.dumps(value)}"),
        lambda: Settings.of({flat: value}),
        lambda: Settings.load(write(tmp_path, document)),
    ]
    for way in ways:
        with pytest.warns(FlatNameWarning, match=rf"{flat} is now called {name};"):
            assert way() == Settings.of({name: value})


def test_every_flat_name_has_a_setting() -> None:
    assert set(FLAT_NAMES.values()) <= {name for name, _ in setting_names()}


@pytest.mark.filterwarnings("error")
def test_a_setting_that_is_gone_may_keep_the_value_that_still_holds(tmp_path: Path) -> None:
    document = 'preview_format = "webp"\npreview_source = "packed"\n'
    assert Settings.load(write(tmp_path, document)) == of("preview_format=webp") == Settings()
    with pytest.raises(SettingsError, match=r"caption_assets\.toml: preview_format: .* dropped AVIF and MP4"):
        Settings.load(write(tmp_path, 'preview_format = "avif"'))


def test_an_entry_of_a_table_may_have_the_flat_name_too() -> None:
    with pytest.warns(FlatNameWarning, match="sampling_params is now called caption.sampling_params;"):
        assert of("sampling_params.seed=7").caption.seed == 7


def test_a_flat_name_joins_the_group_that_is_given_beside_it() -> None:
    with pytest.warns(FlatNameWarning):
        settings = Settings.of({"window_size": 300, "window": {"remainder_threshold": 9}})
    assert settings.window == WindowSettings(window_size=300, remainder_threshold=9)


def test_a_wrong_value_under_a_flat_name_is_refused_under_the_new_one() -> None:
    with (
        pytest.warns(FlatNameWarning),
        pytest.raises(SettingsError, match=r"^--set: window\.window_size: out of range"),
    ):
        of("window_size=3")
