-- The candidates that the current caption recipe of each window of a batch made.
SELECT w.path, w.window_index, w.original_caption, k.*
FROM batch_windows w
JOIN caption_candidates k
  ON k.window_id = w.window_id AND k.first_upload_at = w.first_upload_at AND k.recipe_id = w.caption_recipe_id
WHERE w.batch = $batch
ORDER BY w.path, w.clip_start_frame, w.start_frame, k.stage, k.sample_index, k.attempt;
