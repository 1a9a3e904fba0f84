"""The main job through an OpenAI-compatible server: what it says becomes rows, and the key is in none of them."""

import json
import re

import pytest

from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import TABLES
from caption_assets.pipeline.reproduce import reproduce_candidate
from caption_assets.root import RootFolder
from tests.engines.servers import Call, Reply, TestServer, refuses, says
from tests.orchestration.running import query, run_job, table

KEY = "sk-this-must-never-be-seen"
PAGES = {"/v1/models": {"data": [{"id": "served-vl", "owned_by": "vllm"}]}, "/version": {"version": "0.32.0"}}


@pytest.fixture
def server():
    """Captions one seed, declines the next, refuses the third with words that repeat the key. Rewrites captions."""
    seeds: list[int] = []

    def answer(call: Call) -> Reply:
        if isinstance(call.body["messages"][-1]["content"], str):
            return Reply(payload=says("<think>Dogs run.</think>A brown dog runs happily over the grass."))
        if call.body["seed"] not in seeds:
            seeds.append(call.body["seed"])
        return (
            Reply(payload=says('A "brown" dog \\ runs over {grass}.')),
            Reply(payload=says(None, refusal="I cannot describe this.")),
            Reply(400, refuses(f"{call.headers['authorization']} may not do this")),
        )[seeds.index(call.body["seed"]) % 3]

    with TestServer(answer, PAGES) as server:
        yield server


def test_a_server_s_answers_become_rows_and_the_key_is_nowhere(copy, server, monkeypatch, capfd):
    monkeypatch.setenv("SERVER_KEY", KEY)
    settings = {
        "caption.model": "served-vl",
        "enhance": {"model": "served-vl"},
        "openai": {"base_urls": [server.url], "api_key_env": "SERVER_KEY", "timeout_s": 10.0, "max_concurrency": 1},
    }
    ran = run_job(copy, engine="openai", settings=settings)
    assert ran.ok
    made = query(copy, "SELECT * FROM caption_candidates WHERE run_id = $run", run=ran.result.run_id)
    rows = {row["status"]: row for row in made}
    assert len(made) == len(rows) == 3
    assert rows["ok"]["text"] == 'A "brown" dog \\ runs over {grass}.'
    assert (rows["ok"]["prompt_tokens"], rows["ok"]["output_tokens"]) == (7, 3)
    assert rows["refused"]["text"] == "I cannot describe this."
    assert re.fullmatch(r"http://[\d.:]+/v1 answered 400: .*<key>.* may not do this", rows["error"]["error"])
    [enhanced] = query(copy, "SELECT * FROM enhanced_captions WHERE run_id = $run", run=ran.result.run_id)
    assert (enhanced["text"], enhanced["reasoning"]) == ("A brown dog runs happily over the grass.", "Dogs run.")
    shown = [row for row in table(copy) if row["caption"] == rows["ok"]["text"]]
    assert [row["model_id"] for row in shown] == ["served-vl"]
    assert all(call.headers["authorization"] == f"Bearer {KEY}" for call in server.calls)

    told = [json.dumps(query(copy, f"FROM {name}"), default=str) for name in TABLES]
    told += [repr(event) for event in ran.result.all_events]
    told += [repr(ran.shown(asset)) for asset in ("vl_captions", "enhanced_captions", "caption_table")]
    told += [path.read_text(errors="replace") for path in (copy / "exports").rglob("*.jsonl")]
    told += capfd.readouterr()
    assert len("".join(told)) > 10_000
    assert not [text for text in told if KEY[3:] in text]

    again = run_job(copy, engine="openai", settings=settings)
    assert again.new_rows.get("caption_candidates") == 1, "only the error is asked again"

    (copy / "here").mkdir()
    (copy / "here" / "caption_assets.toml").write_text(
        f'openai = {{base_urls = ["{server.url}"], api_key_env = "SERVER_KEY"}}'
    )
    monkeypatch.chdir(copy / "here")
    root = RootFolder.at(copy)
    made_again = reproduce_candidate(root, Ledger(root), rows["ok"]["candidate_id"])
    assert made_again is not None
    assert (made_again["matched"], made_again["made now"]) == (True, rows["ok"]["text"])
