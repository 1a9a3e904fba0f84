"""`caption-assets retain`: a policy over the candidates that are there, and the tables written again."""

import uuid

from caption_assets.export.table import write_tables
from caption_assets.ledger.database import Ledger
from caption_assets.orchestration.deciding import decide_batch
from caption_assets.orchestration.stage import activate
from caption_assets.recipes import retention_recipe
from caption_assets.root import RootFolder
from caption_assets.settings import Settings


def retain_batches(root: RootFolder, ledger: Ledger, settings: Settings, batch: str | None) -> list[dict[str, object]]:
    """Decide again for one batch or all, under the policy of `settings`; return counts per batch."""
    run_id = f"retain-{uuid.uuid4()}"
    recipe = retention_recipe(settings)
    captioned = ledger.query("SELECT batch FROM current_recipes WHERE kind = 'caption' ORDER BY batch")
    rows: list[dict[str, object]] = []
    for each in (str(row["batch"]) for row in captioned):
        if batch is not None and each != batch:
            continue
        activate(ledger, each, [recipe], "command:retain", run_id)
        candidates = ledger.named("current_candidates", batch=each)
        decided = decide_batch(ledger, each, candidates, settings, run_id)
        table = write_tables(root, ledger, each)
        windows = len({row["window_id"] for row in candidates})
        rows.append(
            {"batch": each, "policy": settings.keep_candidate_mode, "windows": windows, "decided": decided,
             "captioned": sum(row["status"] == "captioned" for row in table)}
        )  # fmt: skip
    return rows
