"""The files that hold a clip, in whatever batch."""

from caption_assets.ledger.captions import recorded_uploads
from caption_assets.ledger.schema import UploadRow
from caption_assets.ledger.store import Session


def uploads_of_clip(session: Session, clip: str) -> list[UploadRow]:
    """Return what was recorded last of each file that holds a clip, taken down or not, by batch and path.

    A part of a file is held by the file: `clip_id` of a row is the clip that is the whole file.
    """
    sources = session.rows("SELECT DISTINCT source_clip_id FROM clips WHERE clip_id = $clip", clip=clip)
    files = {clip, *(source for (source,) in sources)}
    holds = "clip_id = $clip OR clip_id IN (SELECT source_clip_id FROM clips WHERE clip_id = $clip)"
    paths = f"uploads WHERE (batch, path) IN (SELECT batch, path FROM uploads WHERE {holds})"
    return [row for row in recorded_uploads(session.select(UploadRow, paths, clip=clip)) if row.clip_id in files]
