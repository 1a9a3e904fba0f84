-- The windows of a batch with the preview that it shows of each.
SELECT w.path, w.window_index, w.window_id, w.clip_id, w.start_frame, w.end_frame, w.start_s, w.end_s,
       w.recipe_id AS window_recipe_id,
       r.params AS window_params, c.fps, c.display_height, c.display_width,
       p.recipe_id AS preview_recipe_id, p.uri, p.sha256, p.bytes, p.width, p.height, p.n_frames,
       p.poster_uri, p.poster_sha256, p.poster_bytes, p.warnings, p.status, p.error
FROM batch_windows w
JOIN recipes r ON r.recipe_id = w.recipe_id
JOIN live_clips c ON c.clip_id = w.clip_id
LEFT JOIN batch_previews p ON p.batch = w.batch AND p.window_id = w.window_id
WHERE w.batch = $batch AND w.status = 'ok'
ORDER BY w.path, w.clip_start_frame, w.start_frame;
