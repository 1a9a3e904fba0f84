-- Clips of a batch that have no window under its current recipe, with the newest reason: too short, or an error.
SELECT b.path, b.name, coalesce(b.source_start_s, 0) AS clip_start_s, b.clip_id, s.status, s.error
FROM batch_clips b
JOIN current_recipes r ON r.kind = 'window' AND r.batch = b.batch
JOIN window_sets s ON s.clip_id = b.clip_id AND s.recipe_id = r.recipe_id
WHERE b.batch = $batch
QUALIFY row_number() OVER (PARTITION BY b.clip_id ORDER BY s.status = 'error', s.created_at DESC) = 1
    AND s.status <> 'ok'
ORDER BY b.path, b.source_start_frame;
