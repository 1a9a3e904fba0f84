-- Files of a batch that could not be split, with the newest reason.
SELECT m.path, s.error
FROM missing_splits m
JOIN clip_sets s ON s.source_clip_id = m.clip_id AND s.recipe_id = m.recipe_id
WHERE m.batch = $batch
QUALIFY row_number() OVER (PARTITION BY m.path ORDER BY s.created_at DESC, s.run_id) = 1
ORDER BY m.path;
