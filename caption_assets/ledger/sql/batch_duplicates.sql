-- The windows of a batch that are collapsed, with the window that stands for each.
SELECT w.path, w.window_index, d.window_id, d.duplicate_of, d.mode, d.distance
FROM collapsed_windows d
JOIN batch_windows w ON w.batch = d.batch AND w.window_id = d.window_id
WHERE d.batch = $batch
ORDER BY w.path, w.clip_start_frame, w.start_frame;
