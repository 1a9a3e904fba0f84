-- The clips of every batch, or of one, and whether a window recipe has cut them.
SELECT b.batch, b.clip_id, c.n_frames, c.recipe_id AS clip_recipe_id,
       EXISTS (
         SELECT 1 FROM complete_window_sets s WHERE s.clip_id = b.clip_id AND s.recipe_id = $window
       ) AS is_cut
FROM batch_clips b
JOIN live_clips c ON c.clip_id = b.clip_id
WHERE $batch IS NULL OR b.batch = $batch
ORDER BY b.batch, b.path;
