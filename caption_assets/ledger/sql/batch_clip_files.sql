-- Every registered file, in whatever batch, that holds a clip of this batch, whether the batch shows the clip or not, and
-- which frames of the file are the clip (NULL: all of them).
SELECT DISTINCT b.clip_id, b.source_clip_id, b.source_start_frame, b.source_end_frame, u.batch, u.path, u.bytes, u.mtime_ns
FROM batch_file_clips b
JOIN live_uploads u ON u.clip_id = b.source_clip_id
WHERE b.batch = $batch AND u.status = 'ok';
