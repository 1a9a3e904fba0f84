-- Where a window comes from: its clip, the files that hold it, and where in them the clip begins.
SELECT w.window_id, w.clip_id, w.window_index, w.start_frame, w.end_frame, w.start_s, w.end_s, w.status, w.error,
       s.source_start_s AS clip_start_s, s.source_end_s AS clip_end_s,
       (SELECT list(DISTINCT u.batch || '/' || u.path ORDER BY u.batch || '/' || u.path)
        FROM live_uploads u WHERE u.clip_id = coalesce(s.source_clip_id, w.clip_id)) AS files
FROM windows w
LEFT JOIN (
  SELECT clip_id, source_clip_id, source_start_s, source_end_s FROM clips
  WHERE source_clip_id IS NOT NULL AND clip_id = (SELECT clip_id FROM windows WHERE window_id = $window)
  QUALIFY row_number() OVER (PARTITION BY clip_id ORDER BY created_at DESC, recipe_id) = 1
) s ON s.clip_id = w.clip_id
WHERE w.window_id = $window;
