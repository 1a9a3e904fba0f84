-- Candidates of the current recipe that the decision in force does not judge. A person's decision names the candidates
-- it is about, so windows that a person decided are left out, and so are windows that show another window's captions.
SELECT w.name AS path, w.window_index, k.candidate_id, count(d.candidate_id) AS n_verdicts
FROM batch_windows w
JOIN caption_candidates k
  ON k.window_id = w.window_id AND k.first_upload_at = w.first_upload_at AND k.recipe_id = w.caption_recipe_id
LEFT JOIN batch_decisions b ON b.batch = w.batch AND b.window_id = w.window_id
LEFT JOIN retention_decisions d ON d.decision_id = b.decision_id AND d.candidate_id = k.candidate_id AND d.first_upload_at = k.first_upload_at
WHERE w.batch = $batch AND NOT coalesce(starts_with(b.decided_by, 'user:'), false) AND b.duplicate_of IS NULL
GROUP BY w.name, w.window_index, k.candidate_id
HAVING count(d.candidate_id) <> 1
ORDER BY w.name, w.window_index;
