-- What is odd about files of a batch that are used all the same, and which are there and taken down.
SELECT path, error FROM live_uploads WHERE batch = $batch AND status = 'ok' AND error IS NOT NULL
UNION ALL
SELECT u.path, 'not shown: taken down by ' || substr(t.requested_by, 6) || coalesce(' (' || t.detail || ')', '')
FROM (
  SELECT * FROM uploads WHERE batch = $batch
  QUALIFY row_number() OVER (PARTITION BY path ORDER BY created_at DESC, run_id) = 1
) u
JOIN standing_takedowns t
  ON (t.object_kind = 'clip' AND t.object_id = u.clip_id) OR (t.object_kind = 'batch' AND t.object_id = u.batch)
WHERE u.status = 'ok'
UNION ALL
SELECT u.path, printf('no clip with any of the frames %d to %d is shown: they are taken down', h.source_start_frame, h.source_end_frame)
FROM live_uploads u
JOIN hidden_frames h ON h.source_clip_id = u.clip_id
WHERE u.batch = $batch AND u.status = 'ok'
ORDER BY path, error;
