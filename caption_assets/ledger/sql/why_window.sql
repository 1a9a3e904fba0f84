-- Where a window comes from.
SELECT w.window_id, w.clip_id, w.window_index, w.start_frame, w.end_frame, w.start_s, w.end_s, w.status, w.error,
       (SELECT list(DISTINCT u.batch || '/' || u.path ORDER BY u.batch || '/' || u.path)
        FROM live_uploads u WHERE u.clip_id = w.clip_id) AS files
FROM windows w
WHERE w.window_id = $window;
