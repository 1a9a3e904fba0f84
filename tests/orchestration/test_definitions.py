import json
import re
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from caption_assets.definitions import defs
from caption_assets.exchange.table import COLUMNS
from caption_assets.ledger.schema import TABLES
from caption_assets.orchestration.partitions import video_batches
from caption_assets.settings import Settings, SettingsError
from caption_assets.settings.recipes import CODE_VERSIONS
from tests.orchestration.running import ASSETS, CHECKS

CHECKOUT = Path(__file__).parents[2]

HEAVY = ("torch", "vllm", "transformers", "openai", "ray")
PURE = (
    "captioning", "engines", "exchange", "ids", "ledger", "pipeline", "retention", "review", "root", "settings",
    "uploads", "video",
)  # fmt: skip

IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module("caption_assets." + sys.argv[1])
for module in pkgutil.walk_packages(getattr(package, "__path__", []), package.__name__ + "."):
    importlib.import_module(module.name)
print([name for name in sys.argv[2:] if name in sys.modules])
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=CHECKOUT, capture_output=True, text=True, timeout=60)


def asset_spec(name: str) -> dg.AssetSpec:
    return defs.resolve_asset_graph().get(dg.AssetKey(name)).to_asset_spec()


def test_definitions_load_with_every_warning_an_error_and_without_heavy_libraries():
    loaded = python(
        "-W", "error", "-c", f"import sys, caption_assets.definitions; print([n for n in {HEAVY} if n in sys.modules])"
    )  # fmt: skip
    assert (loaded.returncode, loaded.stdout.strip(), loaded.stderr) == (0, "[]", "")


@pytest.mark.parametrize("package", PURE)
def test_pure_code_does_without_dagster(package):
    imported = python("-c", IMPORT_ALL, package, "dagster", *HEAVY)
    assert (imported.returncode, imported.stdout.strip()) == (0, "[]"), imported.stderr


def test_the_graph_is_the_one_of_the_design():
    graph = defs.resolve_asset_graph()
    parents = {
        node.key.to_user_string(): {key.to_user_string() for key in node.parent_keys} for node in graph.asset_nodes
    }
    assert parents == {
        "raw_clips": set(),
        "windows": {"raw_clips"},
        "vl_captions": {"windows"},
        "previews": {"windows"},
        "enhanced_captions": {"vl_captions"},
        "caption_table": {"enhanced_captions", "previews"},
    }


def test_the_main_job_makes_every_asset_and_runs_every_check():
    layer = defs.resolve_job_def("caption_batch").asset_layer
    assert {key.to_user_string() for key in layer.selected_asset_keys} == set(ASSETS)
    assert {key.name for key in layer.asset_graph.asset_check_keys} == CHECKS


def test_the_sensor_runs_the_main_job_and_is_off_until_someone_turns_it_on():
    [sensor] = defs.sensors
    assert (sensor.name, sensor.job_name) == ("new_uploads", "caption_batch")
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED


@pytest.mark.parametrize("name", ASSETS)
def test_an_asset_says_what_it_is(name):
    spec = asset_spec(name)
    assert spec.description and len(spec.description.splitlines()) > 1
    assert spec.owners == ["team:captions"]
    assert spec.group_name == "captions"
    assert spec.kinds
    assert spec.code_version
    assert spec.partitions_def == video_batches


@pytest.mark.parametrize(
    ("name", "table", "kind"),
    [
        ("raw_clips", "uploads", "clip"),
        ("windows", "windows", "window"),
        ("vl_captions", "caption_candidates", "caption"),
        ("enhanced_captions", "enhanced_captions", "enhance"),
        ("previews", "previews", "preview"),
        ("caption_table", None, None),
    ],
)
def test_an_asset_shows_the_columns_and_the_code_version_of_what_it_writes(name, table, kind):
    spec = asset_spec(name)
    columns = TABLES[table].columns if table else COLUMNS
    shown = spec.metadata["dagster/column_schema"].columns
    assert [(c.name, c.type, c.description, c.constraints.nullable) for c in shown] == [
        (c.name, c.type, c.meaning, c.nullable) for c in columns
    ]
    if kind:
        assert spec.code_version == CODE_VERSIONS[kind]
        assert spec.metadata["dagster/table_name"] == f"ledger.{table}"


@pytest.mark.parametrize("check", sorted(CHECKS))
def test_a_check_says_what_it_claims(check):
    [key] = [key for key in defs.resolve_asset_graph().asset_check_keys if key.name == check]
    assert defs.resolve_asset_graph().get_check_spec(key).description


def launchpad_fields():
    schema = defs.resolve_job_def("caption_batch").run_config_schema.config_type
    return schema.fields["resources"].config_type.fields["settings"].config_type.fields["config"].config_type.fields


def plain(field):
    return field.default_value if field.default_provided else None


@pytest.mark.parametrize("group", Settings.model_fields)
def test_the_launchpad_shows_every_setting_with_its_default_and_meaning(group):
    shown, declared = launchpad_fields()[group], getattr(Settings(), group)
    assert shown.description == declared.__doc__
    fields = shown.config_type.fields
    assert {name: plain(field) for name, field in fields.items()} == declared.model_dump()
    assert {name: field.description for name, field in fields.items()} == {
        name: info.description for name, info in type(declared).model_fields.items()
    }


def test_the_launchpad_has_the_groups_in_their_order_and_nothing_else():
    assert list(launchpad_fields()) == list(Settings.model_fields)


def test_settings_of_the_folder_are_the_launchpad_s_defaults(tmp_path):
    (tmp_path / "caption_assets.toml").write_text("caption.caption_num = 3\n[enhance]\nenabled = false\n")
    program = (
        "import json; from caption_assets.definitions import defs\n"
        "v = defs.resources['settings'].values()\n"
        "print(json.dumps([v.caption.caption_num, v.enhance.enabled, v.window.window_size]))"
    )
    asked = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert json.loads(asked.stdout) == [3, False, 256]


def test_configuration_in_its_flat_form_is_accepted_with_a_warning():
    config = {"window_size": 300, "caption": {"caption_num": 2}}
    job = defs.resolve_job_def("caption_batch")
    assert dg.validate_run_config(job, {"resources": {"settings": {"config": config}}})
    with pytest.warns(FutureWarning, match=r"window_size is now called window\.window_size"):
        settings = type(defs.resources["settings"])(**config).values()
    assert settings == Settings.of({"window.window_size": 300, "caption.caption_num": 2})


def test_the_values_of_the_resource_are_the_settings():
    assert defs.resources["settings"].values() == Settings.of({})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"window.window_size": 1}, "window_size: out of range; allowed: 4 to 1000000 (it is 1)"),
        ({"clip.split": "scene"}, "split: unknown value 'scene'; allowed: none, stride, scenes. Did you mean scenes?"),
        ({"windw": {"window_size": 4}}, "windw: no such setting. Did you mean window.window_size?"),
        ({"enhance": {"on_drift": "hide"}}, "enhance.on_drift: unknown value 'hide'; allowed: keep, flag, fallback."),
    ],
)
def test_what_the_launchpad_is_given_is_refused_in_our_own_words(config, message):
    resource = type(defs.resources["settings"])(**config)
    with pytest.raises(SettingsError, match=re.escape(message)):
        resource.values()
