"""The pictures of what gates stopped: of one batch, and over the latest ones."""

import base64
import re

import dagster as dg

from caption_assets.orchestration.gate_history import MAX_BATCHES, gate_numbers, gates_over_batches
from caption_assets.orchestration.metadata import bars

KEY = dg.AssetKey("vl_captions")


def svg(value: dg.MarkdownMetadataValue) -> str:
    found = re.search(r"base64,([A-Za-z0-9+/=]+)", value.md_str or "")
    assert found, value.md_str
    return base64.b64decode(found[1]).decode()


def test_the_latest_batches_stand_side_by_side_each_once_and_this_one_at_the_right():
    with dg.DagsterInstance.ephemeral() as instance:
        for batch, n in [("a", 1), ("b", 2), ("a", 5), ("now", 9), ("<c>", 0)]:
            metadata = gate_numbers({"loop": n, "too_short": 0})
            instance.report_runless_asset_event(dg.AssetMaterialization(KEY, partition=batch, metadata=metadata))
        drawn = svg(gates_over_batches(instance, KEY, "now", {"loop": 3, "refusal": 1}))
        titles = re.findall(r"<title>(.*?)</title>", drawn)
        assert [title for title in titles if "loop" in title] == [
            "b: loop 2", "a: loop 5", "&lt;c&gt;: loop 0", "now: loop 3",
        ]  # fmt: skip
        assert "now: refusal 1" in titles
        heights = {
            title: float(h) for h, title in re.findall(r'height="([\d.]+)" fill="[^"]+"><title>(.*?)</title>', drawn)
        }
        assert heights["a: loop 5"] == max(heights.values())
        for number in range(2 * MAX_BATCHES):
            instance.report_runless_asset_event(
                dg.AssetMaterialization(KEY, partition=f"{number}", metadata=gate_numbers({"loop": 1}))
            )
        assert len(re.findall("<title>", svg(gates_over_batches(instance, KEY, "now", {"loop": 1})))) == MAX_BATCHES
        assert "nothing" in str(gates_over_batches(dg.DagsterInstance.ephemeral(), KEY, "x", {}).md_str)


def test_a_bar_for_each_gate_that_stopped_something():
    drawn = svg(bars({"loop": 4, "refusal": 0, "too_short": 1}))
    assert re.findall(r'text-anchor="end">(\w+)<', drawn) == ["loop", "too_short"]
    assert [float(width) for width in re.findall(r'height="14" fill="#4f43dd"', drawn) and re.findall(
        r'width="([\d.]+)" height="14"', drawn)] == [220.0, 55.0]  # fmt: skip
