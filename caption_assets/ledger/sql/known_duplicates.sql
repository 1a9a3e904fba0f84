-- Windows of a batch that a dedupe recipe has decided to collapse.
SELECT window_id
FROM window_duplicates
WHERE recipe_id = $recipe AND (window_id, home_batch) IN (SELECT (window_id, home_batch) FROM batch_windows WHERE batch = $batch);
