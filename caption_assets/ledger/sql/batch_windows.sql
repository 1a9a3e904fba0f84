-- The windows of a batch in reading order.
SELECT window_id, clip_id, path, name, clip_start_frame, clip_start_s, window_index, start_frame, end_frame, start_s, end_s, len(frame_indices) AS n_sampled,
       status, error, recipe_id, run_id, window_is_current
FROM batch_windows
WHERE batch = $batch
ORDER BY path, clip_start_frame, start_frame;
