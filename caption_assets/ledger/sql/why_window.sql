-- Where a window comes from: its clip, the files that hold it, and where in them the clip begins.
WITH found AS MATERIALIZED (
  SELECT window_id, clip_id, window_index, start_frame, end_frame, start_s, end_s, status, error, first_upload_at
  FROM windows
  WHERE window_id_md5 = md5_number_lower($window)  -- alone, or all the texts are compared beside it
),
w AS MATERIALIZED (FROM found WHERE window_id = $window),
s AS MATERIALIZED (
  SELECT clip_id, source_clip_id, source_start_s, source_end_s
  FROM clips
  WHERE source_clip_id IS NOT NULL AND clip_id = (SELECT clip_id FROM w)
  QUALIFY row_number() OVER (ORDER BY created_at DESC, recipe_id) = 1
),
file AS MATERIALIZED (SELECT coalesce((SELECT source_clip_id FROM s), (SELECT clip_id FROM w)) AS clip_id),
-- The rows that ever held the file are few: those that are still live are looked for among their batches alone.
held AS MATERIALIZED (
  SELECT DISTINCT u.batch, u.path FROM uploads u WHERE u.clip_id = (SELECT clip_id FROM file)
),
newest AS (
  SELECT u.batch, u.path, u.clip_id
  FROM uploads u SEMI JOIN held h ON h.batch = u.batch AND h.path = u.path
  QUALIFY row_number() OVER (PARTITION BY u.batch, u.path ORDER BY u.created_at DESC, u.run_id) = 1
)
SELECT w.window_id, w.clip_id, w.window_index, w.start_frame, w.end_frame, w.start_s, w.end_s, w.status, w.error,
       w.first_upload_at, s.source_clip_id, s.source_start_s AS clip_start_s, s.source_end_s AS clip_end_s,
       (SELECT list(n.batch || '/' || n.path ORDER BY n.batch || '/' || n.path)
        FROM newest n
        ANTI JOIN standing_takedowns t ON t.object_kind = 'batch' AND t.object_id = n.batch
        WHERE n.clip_id = (SELECT clip_id FROM file)) AS files
FROM w
LEFT JOIN s ON s.clip_id = w.clip_id;
