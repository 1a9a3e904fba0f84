-- Every registered file, in whatever batch, that holds a clip of this batch.
SELECT u.clip_id, u.batch, u.path, u.bytes, u.mtime_ns
FROM live_uploads u
WHERE u.status = 'ok' AND u.clip_id IN (SELECT clip_id FROM batch_clips WHERE batch = $batch);
