"""Which revision weights are, known without reading or fetching them."""

import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caption_assets.engines import weights
from caption_assets.engines.protocol import EngineSpec
from caption_assets.engines.weights import WeightsError, digest_of, fetch, locate
from caption_assets.settings.groups import CaptionSettings, EngineSettings

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def spec(model: str, **fields: Any) -> EngineSpec:
    engine = EngineSettings(model_dir=fields.pop("model_dir", None))
    return EngineSpec(CaptionSettings(model=model, **fields), engine)


class Hub(types.ModuleType):
    """A hub with one model, `org/tiny`, whose main branch is COMMIT."""

    def __init__(self) -> None:
        super().__init__("huggingface_hub")
        self.asked: list[str] = []
        self.HfApi = lambda: types.SimpleNamespace(model_info=self._info)

    def _info(self, model: str, revision: str | None) -> Any:
        self.asked.append(f"info {model} {revision}")
        if model != "org/tiny":
            raise type("RepositoryNotFoundError", (Exception,), {})("404")
        return types.SimpleNamespace(sha=COMMIT)

    def list_repo_files(self, model: str, revision: str) -> list[str]:
        return ["config.json", "model.safetensors", "pytorch_model.bin"]

    def snapshot_download(self, model: str, *, revision: str, local_dir: Path, ignore_patterns: list[str]) -> str:
        self.asked.append(f"fetch {model} {revision}")
        assert "*.bin" in ignore_patterns, "weights are fetched once, not in two formats"
        folder = local_dir or weights._hub_cache() / "models--org--tiny" / "snapshots" / revision
        write_model(folder)
        return str(folder)


def write_model(folder: Path, value: bytes = b"w") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(value)
    return folder


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    fake = Hub()
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    weights._locate.cache_clear()
    yield fake
    weights._locate.cache_clear()


def test_a_local_folder_is_what_its_files_say_wherever_it_lies(tmp_path: Path, hub: Hub):
    a, b = (write_model(tmp_path / place / "tiny") for place in ("a", "b"))
    (b / "README.md").write_text("other words")
    (b / ".gitattributes").write_text("hidden")
    assert (locate(spec(str(a))).id, locate(spec(str(a))).revision) == ("tiny", locate(spec(str(b))).revision)
    assert digest_of(a) != digest_of(write_model(tmp_path / "c" / "tiny", b"x"))
    assert hub.asked == []


def test_of_large_files_the_ends_and_the_middle_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(weights, "WHOLE_BYTES", 100)
    monkeypatch.setattr(weights, "SLICE_BYTES", 10)
    plain = bytearray(100_000)
    digests = set()
    for position in (None, 0, (100_000 - 10) * 31 // 63, 99_999):
        changed = plain.copy()
        if position is not None:
            changed[position] = 1
        digests.add(digest_of(write_model(tmp_path / str(position), bytes(changed))))
    assert len(digests) == 4
    assert len({digest_of(write_model(tmp_path / "n", bytes(n))) for n in (100_000, 100_001)}) == 2


def test_a_revision_that_is_in_the_cache_is_not_looked_up(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch):
    reference = tmp_path / "hub" / "models--org--tiny" / "refs" / "main"
    reference.parent.mkdir(parents=True)
    reference.write_text(COMMIT)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert locate(spec("org/tiny")).revision == COMMIT
    assert locate(spec("org/tiny", revision="f" * 40)).revision == "f" * 40
    assert hub.asked == []


def test_a_branch_is_resolved_once_and_weights_are_fetched_once(hub: Hub):
    assert locate(spec("org/tiny")) == locate(spec("org/tiny"))
    folder = fetch(spec("org/tiny"))
    assert (folder / "model.safetensors").is_file()
    assert fetch(spec("org/tiny", revision=COMMIT)) == folder
    assert hub.asked == ["info org/tiny None", f"fetch org/tiny {COMMIT}"]


def test_what_was_fetched_into_model_dir_keeps_its_commit_until_somebody_changes_it(tmp_path: Path, hub: Hub):
    there = spec("org/tiny", model_dir=str(tmp_path / "weights"))
    folder = fetch(there)
    assert folder == tmp_path / "weights" / "org" / "tiny"
    assert (locate(there).revision, locate(there).path) == (COMMIT, folder)
    write_model(folder, b"tuned further")
    weights._locate.cache_clear()
    assert locate(there).revision.startswith("sha256:")
    other = fetch(spec("org/tiny", model_dir=there.engine.model_dir, revision="a" * 40))
    assert other.name == f"tiny@{'a' * 40}"
    assert (folder / "model.safetensors").read_bytes() == b"tuned further"


def test_what_another_process_is_still_fetching_into_model_dir_is_waited_for(tmp_path: Path, hub: Hub):
    there = spec("org/tiny", model_dir=str(tmp_path))
    begun = tmp_path / "org" / "tiny"
    begun.mkdir(parents=True)
    (begun / "config.json").write_text("{}")
    assert (locate(there).revision, locate(there).path) == (COMMIT, None)
    assert fetch(there) == begun
    assert (begun / "model.safetensors").is_file()
    weights._locate.cache_clear()
    assert (locate(there).revision, locate(there).path) == (COMMIT, begun)


def test_a_shard_that_is_missing_is_fetched(tmp_path: Path, hub: Hub):
    folder = fetch(spec("org/tiny"))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-2.safetensors"}}))
    fetch(spec("org/tiny"))
    assert hub.asked.count(f"fetch org/tiny {COMMIT}") == 2


def test_a_folder_without_weights_is_told_and_will_do_where_they_are_invented(tmp_path: Path, hub: Hub):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match=rf"{tmp_path} holds no weights, .* copy the missing files \(.safetensors"):
        fetch(spec(str(tmp_path)))
    assert fetch(spec(str(tmp_path), vllm_kwargs={"load_format": "dummy"})) == tmp_path
    assert hub.asked == []


def test_what_cannot_be_had_says_why(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(WeightsError, match=r"org/other: the hub has no such model"):
        locate(spec("org/other"))
    with pytest.raises(WeightsError, match=r"/no/such: no such folder"):
        locate(spec("/no/such"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    weights._locate.cache_clear()
    with pytest.raises(WeightsError, match=r"org/tiny: not on this host, and HF_HUB_OFFLINE"):
        locate(spec("org/tiny"))
    with pytest.raises(WeightsError, match=r"org/tiny: some of its weights are missing, and HF_HUB_OFFLINE"):
        fetch(spec("org/tiny", revision=COMMIT))
