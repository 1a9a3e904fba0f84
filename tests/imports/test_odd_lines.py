"""A line or a clip that cannot be used costs that line or clip alone, and is named."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from caption_assets.exchange import data_juicer, nemo_curator
from caption_assets.exchange.delivery import Delivery

V, E = "<__dj__video>", "<|__dj__eoc|>"


def read_lines(folder: Path, rows: Sequence[object]) -> Delivery:
    for name in ("a.mp4", "b.mp4"):
        (folder / name).touch()
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return data_juicer.read_delivery(folder)


def row(video: str, text: str, provenance: object = None) -> dict[str, object]:
    ours = {} if provenance is None else {"caption_assets": json.dumps(provenance)}
    return {"text": f"{V} {text} {E}", "videos": [video], **ours}


def test_a_second_export_in_one_file_is_named_and_plain_rows_are_all_samples(tmp_path: Path) -> None:
    first = {"row": "original", "sample": 0}
    captioned = {"row": "captioned", "sample": 0, "original": f"{V} one {E}", "candidate": 0, "windows": [[]]}
    delivery = read_lines(
        tmp_path,
        [
            row("a.mp4", "plain"),
            row("a.mp4", "one", first),
            row("a.mp4", "a caption", captioned) | {"__dj__stats__": {"text_len": 9}},
            row("b.mp4", "of another export", first),
            row("b.mp4", "plain too"),
        ],
    )
    assert [sample.text for sample in delivery.samples] == [f"{V} {text} {E}" for text in ("one", "plain", "plain too")]
    [problem] = delivery.problems
    assert problem.startswith("samples.jsonl, line 4: another sample 0 came before it")
    assert "--batch of its own" in problem


@pytest.mark.parametrize(
    "odd",
    [
        {"candidate": 0},
        {"candidate": 0, "windows": None},
        {"candidate": 0, "windows": [["no object"]]},
        {"candidate": 0, "windows": [[{"caption": "x", "model": "m", "start_frame": float("inf"), "end_frame": 1}]]},
        {"candidate": 0, "windows": []},
        {"windows": [[{"caption": "x", "model": "m", "start_frame": 0, "end_frame": 1}]]},
        {"candidate": 64, "windows": [[{"caption": "x", "model": "m", "start_frame": 0, "end_frame": 1}]]},
    ],
)
def test_odd_provenance_costs_its_line_alone(tmp_path: Path, odd: dict[str, object]) -> None:
    delivery = read_lines(tmp_path, [row("b.mp4", "x", {"row": "captioned", "sample": 7, **odd}), row("a.mp4", "fine")])
    [problem] = delivery.problems
    assert problem.startswith("samples.jsonl, line 1: 'caption_assets' is not what an export writes")
    assert (list(delivery.videos), len(delivery.samples), len(delivery.captions)) == (["a.mp4"], 1, 1)


@pytest.mark.parametrize("windows", [None, [None], ["x"], [[]], [{}], [{"start_frame": float("inf"), "end_frame": 1}]])
def test_odd_windows_of_a_clip_cost_that_clip_alone(tmp_path: Path, windows: object) -> None:
    (tmp_path / "metas" / "v0").mkdir(parents=True)
    (tmp_path / "clips").mkdir()
    for name, some in (("bad", windows), ("good", [{"start_frame": 0, "end_frame": 9, "m_caption": "fine"}])):
        (tmp_path / "clips" / f"{name}.mp4").write_text(name)
        meta = {"span_uuid": name, "source_video": "x.mp4", "clip_location": f"clips/{name}.mp4", "windows": some}
        (tmp_path / "metas" / "v0" / f"{name}.json").write_text(json.dumps(meta))
    delivery = nemo_curator.read_delivery(tmp_path)
    assert [problem.partition(":")[0] for problem in delivery.problems] == ["metas/v0/bad.json"]
    assert [caption.text for caption in delivery.captions] == ["fine"]


@pytest.mark.parametrize("inside", [False, True], ids=["in the text", "in what our export says"])
def test_half_a_character_and_bytes_that_are_no_text_cost_their_line_alone(tmp_path: Path, inside: bool) -> None:
    half = "a grin \ud83d"
    windows = [[{"caption": half, "model": "m", "start_frame": 0, "end_frame": 1}]]
    provenance = {"row": "captioned", "sample": 7, "candidate": 0, "windows": windows}
    bad = row("b.mp4", "x", provenance) if inside else row("b.mp4", half)
    (tmp_path / "a.mp4").touch()
    lines = [json.dumps(bad).encode(), b'{"text": "\xff"}', json.dumps(row("a.mp4", "fine")).encode()]
    (tmp_path / "samples.jsonl").write_bytes(b"\n".join(lines))
    delivery = data_juicer.read_delivery(tmp_path)
    assert [problem.partition(":")[0] for problem in delivery.problems] == [
        "samples.jsonl, line 1", "samples.jsonl, line 2",
    ]  # fmt: skip
    assert "half a character" in delivery.problems[0]
    assert [caption.text for caption in delivery.captions] == ["fine"]
