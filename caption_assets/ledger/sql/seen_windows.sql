-- What the windows of a recipe look like, in order, clip by clip: of a batch, or of all where none is given. Where only equal
-- pixels count, clips without two windows of one digest are left out; numbers in place of clips and digests leave few to look
-- at.
SELECT w.clip_id, w.window_id, w.start_s, w.end_s, w.frame_times_s, w.frame_hashes, w.luma_low, w.luma_high, w.color,
       w.frames_digest
FROM windows w
WHERE w.recipe_id = $window
  AND w.clip_id IN (SELECT clip_id FROM batch_clips WHERE $batch IS NULL OR batch = $batch)
  AND ($near OR w.clip_id IN (
    SELECT clip_id FROM windows
    SEMI JOIN (
      SELECT hash(clip_id, frames_digest) AS number FROM windows
      WHERE recipe_id = $window AND status = 'ok' AND frames_digest IS NOT NULL AND NOT $near
      GROUP BY ALL HAVING count(*) > 1
    ) again ON again.number = hash(clip_id, frames_digest)
    WHERE recipe_id = $window AND status = 'ok'
    GROUP BY clip_id, frames_digest HAVING count(*) > 1 AND frames_digest IS NOT NULL
  ))
ORDER BY w.clip_id, w.start_frame;
