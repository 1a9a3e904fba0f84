-- What the caption table does not say of the clips of a batch.
SELECT DISTINCT w.clip_id, c.bytes, c.pix_fmt, c.source_clip_id IS NULL AS is_whole_file
FROM batch_windows w
JOIN live_clips c ON c.clip_id = w.clip_id
WHERE w.batch = $batch;
