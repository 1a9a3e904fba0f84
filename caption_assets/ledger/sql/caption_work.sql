-- Windows of a batch with fewer good captions than their recipe asks for, with what it takes to make their frames again.
SELECT m.window_id, m.clip_id, m.recipe_id, w.recipe_id AS window_recipe_id, r.params AS window_params
FROM missing_captions m
JOIN batch_windows w ON w.batch = m.batch AND w.window_id = m.window_id
JOIN recipes r ON r.recipe_id = w.recipe_id
WHERE m.batch = $batch
ORDER BY w.path, w.clip_start_frame, w.start_frame;
