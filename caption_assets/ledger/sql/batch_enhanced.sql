-- The enhancements that one recipe made of the captions that a batch shows.
SELECT e.candidate_id, e.enhanced_id, e.attempt, e.status, e.text, e.error
FROM enhanced_captions e
WHERE e.recipe_id = $recipe
  AND (e.window_id, e.first_upload_at) IN (SELECT (window_id, first_upload_at) FROM batch_windows WHERE batch = $batch);
