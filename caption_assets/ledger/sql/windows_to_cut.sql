-- Clips of a batch without a complete window set under its current recipe, and the file to cut them from.
SELECT m.clip_id, m.path, m.source_start_frame, m.source_end_frame, u.bytes, u.mtime_ns
FROM missing_windows m
JOIN live_uploads u ON u.batch = m.batch AND u.path = m.path
WHERE m.batch = $batch
ORDER BY m.path, m.source_start_frame;
