-- What of a batch is not enhanced, and why.
SELECT w.name AS path, w.window_index, s.window_id, s.candidate_id, s.reason_code
FROM enhancement_skips s
JOIN batch_windows w ON w.batch = s.batch AND w.window_id = s.window_id
WHERE s.batch = $batch
ORDER BY w.path, w.clip_start_frame, w.start_frame, s.candidate_id;
