-- The captions that a batch shows: the kept candidates of the decision in force for each window.
-- duplicate_of is the window that they are of, where the window itself is collapsed. skip_reason says why a caption is not
-- enhanced.
SELECT w.path, w.window_index, w.start_frame, w.window_id, w.clip_id, w.recipe_id AS window_recipe_id,
       wr.params AS window_params, k.candidate_id, k.recipe_id, k.sample_index, k.stage, k.status, k.text, d.rank,
       d.reason_code, b.is_current, b.duplicate_of, enhancement_skip(w.status, true, k.status) AS skip_reason
FROM batch_decisions b
JOIN batch_windows w ON w.batch = b.batch AND w.window_id = b.window_id AND w.first_upload_at = b.first_upload_at
JOIN retention_decisions d
  ON d.decision_id = b.decision_id AND d.window_id = b.decided_window_id AND d.first_upload_at = b.first_upload_at AND d.action = 'keep'
JOIN caption_candidates k ON k.candidate_id = d.candidate_id AND k.first_upload_at = d.first_upload_at
JOIN recipes wr ON wr.recipe_id = w.recipe_id
WHERE b.batch = $batch
ORDER BY w.path, w.clip_start_frame, w.start_frame, d.rank;
