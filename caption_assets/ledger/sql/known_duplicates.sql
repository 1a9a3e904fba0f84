-- Windows of a batch that a dedupe recipe has decided to collapse.
SELECT window_id
FROM window_duplicates
WHERE recipe_id = $recipe AND (window_id, first_upload_at) IN (SELECT (window_id, first_upload_at) FROM batch_windows WHERE batch = $batch);
