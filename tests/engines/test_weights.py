"""Which revision weights are, known without reading or fetching them, and how they get here: by the real library."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from caption_assets.engines import weights
from caption_assets.engines.protocol import EngineSpec
from caption_assets.engines.weights import WeightsError, digest_of, fetch, locate
from caption_assets.settings.groups import CaptionSettings, EngineSettings

COMMIT, OTHER = "0123456789abcdef0123456789abcdef01234567", "a" * 40
MODEL = {"config.json": b"{}", "model.safetensors": b"w" * 100, "pytorch_model.bin": b"w" * 100, "README.md": b"words"}


def spec(model: str, **fields: Any) -> EngineSpec:
    engine = EngineSettings(model_dir=fields.pop("model_dir", None))
    return EngineSpec(CaptionSettings(model=model, **fields), engine)


class Hub(BaseHTTPRequestHandler):
    """The hub's interface as far as downloads need it, with one model, `org/tiny`, whose main branch is COMMIT."""

    asked: list[str]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.do_HEAD()

    def do_HEAD(self) -> None:
        self._answer(*self._reply(self.path.partition("?")[0]))

    def _reply(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        """Return status, body and headers: of a model's facts or its list of files, else of a file."""
        is_api = path.startswith("/api/models/")
        owner, name, kind, revision, *file = [*path.removeprefix("/api/models").split("/")[1:], "revision", "main"]
        if f"{owner}/{name}" not in ("org/tiny", "org/gated"):
            return 404, b"", {"X-Error-Code": "RepoNotFound"}
        if revision == "no-such-branch":
            return 404, b"", {"X-Error-Code": "RevisionNotFound"}
        if is_api:
            self.asked.append(f"{kind} {revision}")
            files = [{"type": "file", "path": n, "rfilename": n, "size": len(d), "oid": n} for n, d in MODEL.items()]
            facts = {"id": f"{owner}/{name}", "sha": COMMIT if revision == "main" else revision, "siblings": files}
            return 200, json.dumps(files if kind == "tree" else facts).encode(), {}
        if name == "gated":
            return 403, b"", {"X-Error-Code": "GatedRepo"}
        self.asked.append(f"{self.command} {file[0]}")
        return 200, MODEL[file[0]], {"X-Repo-Commit": revision, "ETag": f'"{file[0]}"'}

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A hub of our own, and a cache with nothing in it."""
    constants = pytest.importorskip("huggingface_hub.constants")
    Hub.asked = []
    weights._locate.cache_clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield address
        server.shutdown()
    weights._locate.cache_clear()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Any:
    def begin() -> None:
        weights._locate.cache_clear()
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    return begin


def write_model(folder: Path, value: bytes = b"w") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(value)
    return folder


def test_a_local_folder_is_what_its_files_say_wherever_it_lies(tmp_path: Path):
    a, b = (write_model(tmp_path / place / "tiny") for place in ("a", "b"))
    (b / "README.md").write_text("other words")
    (b / ".gitattributes").write_text("hidden")
    (b / ".hidden").mkdir()
    (b / ".hidden" / "file").write_text("hidden")
    assert (locate(spec(str(a))).id, locate(spec(str(a))).revision) == ("tiny", locate(spec(str(b))).revision)
    assert digest_of(a) != digest_of(write_model(tmp_path / "c" / "tiny", b"x"))
    assert Hub.asked == []


def test_the_digest_of_a_folder_and_of_a_file_is_the_one_that_ledgers_hold(tmp_path: Path):
    folder = write_model(tmp_path / "model")
    (folder / "sub").mkdir()
    (folder / "sub" / "vocab.txt").write_text("a b")
    assert digest_of(folder) == "sha256:7f592b758fd429bb580a671725e32817"
    assert digest_of(folder / "model.safetensors") == "sha256:08a9958fcf1b4c6a963485702e03cf44"


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


def test_a_revision_that_is_in_the_cache_is_not_looked_up(tmp_path: Path, offline: Any):
    write_model(tmp_path / "hub" / "models--org--tiny" / "snapshots" / COMMIT)
    reference = tmp_path / "hub" / "models--org--tiny" / "refs" / "main"
    reference.parent.mkdir(parents=True)
    reference.write_text(COMMIT)
    offline()
    assert locate(spec("org/tiny")).revision == COMMIT
    assert fetch(spec("org/tiny")).name == COMMIT
    assert locate(spec("org/tiny", revision="f" * 40)).revision == "f" * 40
    assert Hub.asked == []


def test_a_branch_is_resolved_once_and_weights_are_fetched_once_in_one_format(tmp_path: Path, offline: Any):
    assert locate(spec("org/tiny")) == locate(spec("org/tiny"))
    assert Hub.asked == ["revision main"]
    folder = fetch(spec("org/tiny"))
    assert folder == tmp_path / "hub" / "models--org--tiny" / "snapshots" / COMMIT
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    asked = list(Hub.asked)
    assert fetch(spec("org/tiny", revision=COMMIT)) == folder
    assert Hub.asked == asked
    offline()
    assert fetch(spec("org/tiny", revision=COMMIT)) == folder


def test_what_was_fetched_into_model_dir_keeps_its_commit_until_somebody_changes_it(tmp_path: Path, offline: Any):
    there = spec("org/tiny", model_dir=str(tmp_path / "weights"))
    folder = fetch(there)
    assert folder == tmp_path / "weights" / "org" / "tiny"
    assert (locate(there).revision, locate(there).path) == (COMMIT, folder)
    pinned = spec("org/tiny", model_dir=there.engine.model_dir, revision=COMMIT[:7])
    offline()
    assert fetch(there) == fetch(pinned) == folder
    assert locate(there).revision == locate(pinned).revision == COMMIT
    write_model(folder, b"tuned further")
    weights._locate.cache_clear()
    assert locate(there).revision.startswith("sha256:")


def test_another_revision_is_fetched_beside_the_one_in_model_dir(tmp_path: Path):
    there = spec("org/tiny", model_dir=str(tmp_path / "weights"))
    folder = fetch(there)
    write_model(folder, b"tuned further")
    other = fetch(spec("org/tiny", model_dir=there.engine.model_dir, revision=OTHER))
    assert other == tmp_path / "weights" / "org" / f"tiny@{OTHER}"
    assert (folder / "model.safetensors").read_bytes() == b"tuned further"
    assert locate(spec("org/tiny", model_dir=there.engine.model_dir, revision=OTHER)).revision == OTHER


def test_a_folder_that_a_person_filled_is_used_as_it_is(tmp_path: Path, offline: Any):
    folder = write_model(tmp_path / "weights" / "org" / "tiny")
    offline()
    there = spec("org/tiny", model_dir=str(tmp_path / "weights"))
    assert fetch(there) == folder
    assert locate(there).revision == digest_of(folder)


def test_a_folder_that_an_interrupted_process_left_is_completed_at_the_same_commit(tmp_path: Path):
    there = spec("org/tiny", model_dir=str(tmp_path))
    begun = tmp_path / "org" / "tiny"
    weights._write_note(begun, {"model": "org/tiny", "commit": OTHER})
    (begun / "model.safetensors").write_bytes(MODEL["model.safetensors"])
    assert (locate(there).revision, locate(there).path) == (OTHER, None)
    assert fetch(there) == begun
    assert (begun / "config.json").is_file()
    assert (locate(there).revision, locate(there).path) == (OTHER, begun)


def test_two_processes_that_fetch_at_once_agree_and_leave_one_whole_folder(tmp_path: Path, hub: str):
    program = (
        "from caption_assets.engines.weights import fetch, locate\n"
        "from caption_assets.engines.protocol import EngineSpec\n"
        "from caption_assets.settings.groups import CaptionSettings, EngineSettings\n"
        f"folder = EngineSettings(model_dir={str(tmp_path / 'weights')!r})\n"
        "spec = EngineSpec(CaptionSettings(model='org/tiny'), folder)\n"
        "print(locate(spec).revision, fetch(spec), locate(spec).revision)\n"
    )
    environment = {
        **os.environ, "HF_ENDPOINT": hub, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0",
    }  # fmt: skip
    running = [
        subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = {process.communicate(timeout=120)[0].strip() for process in running}
    assert said == {f"{COMMIT} {tmp_path / 'weights' / 'org' / 'tiny'} {COMMIT}"}


def test_a_shard_that_is_missing_is_fetched(monkeypatch: pytest.MonkeyPatch):
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode()
    shards = {"model-1.safetensors": b"1", "model-2.safetensors": b"2"}
    monkeypatch.setitem(globals(), "MODEL", {"config.json": b"{}", "model.safetensors.index.json": index, **shards})
    folder = fetch(spec("org/tiny"))
    (folder / "model-2.safetensors").unlink()
    assert fetch(spec("org/tiny")) == folder
    assert (folder / "model-2.safetensors").read_bytes() == b"2"


def test_a_folder_without_weights_is_refused_and_will_do_where_they_are_invented(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match=rf"{tmp_path} holds no weights, .* copy the missing files \(.safetensors"):
        fetch(spec(str(tmp_path)))
    assert fetch(spec(str(tmp_path), vllm_kwargs={"load_format": "dummy"})) == tmp_path
    assert Hub.asked == []


def test_what_cannot_be_had_says_why_and_what_to_do(tmp_path: Path, offline: Any, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(WeightsError, match=r"/no/such: there is no such folder"):
        locate(spec("/no/such"))
    with pytest.raises(WeightsError, match=r"^org/other: .* check the setting model, .* set model to a folder"):
        locate(spec("org/other"))
    with pytest.raises(WeightsError, match=r"^org/tiny at revision no-such-branch: .* check the setting revision"):
        locate(spec("org/tiny", revision="no-such-branch"))
    with pytest.raises(WeightsError, match=rf"^org/gated .* consent .* set HF_TOKEN, or .* {tmp_path}/org/gated"):
        fetch(spec("org/gated", model_dir=str(tmp_path)))
    offline()
    with pytest.raises(
        WeightsError, match=rf"^org/tiny: .* unset HF_HUB_OFFLINE, or put its files into {tmp_path}/org"
    ):
        locate(spec("org/tiny", model_dir=str(tmp_path)))
    with pytest.raises(WeightsError, match=rf"^org/tiny at revision {COMMIT}: .* unset HF_HUB_OFFLINE"):
        fetch(spec("org/tiny", revision=COMMIT))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(WeightsError, match=r"^org/tiny: .*Connect.*; try again, or set model to a folder"):
        locate(spec("org/tiny"))
