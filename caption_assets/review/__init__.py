"""What people decide: captions chosen by hand, and clips or batches taken down.

    from caption_assets.review import override, take_down, withdraw_override, withdraw_takedown
    from caption_assets.root import RootFolder

    root = RootFolder.at("./data")
    override(root, window_id, [candidate_id], by="ann", note="the car is red")
    take_down(root, clips=[clip_id], by="ann", reason="the uploader asked", delete_files=True)

Every act is rows in the ledger, never a change of rows: who, when, why. Exports of the batches concerned are written
again at once; no model is called.
"""

from caption_assets.pipeline.override import override, withdraw_override
from caption_assets.pipeline.reviewer import ReviewError
from caption_assets.pipeline.takedown import take_down, withdraw_takedown

__all__ = ["ReviewError", "override", "take_down", "withdraw_override", "withdraw_takedown"]
