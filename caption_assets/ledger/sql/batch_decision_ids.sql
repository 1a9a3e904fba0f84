-- The decisions that a policy has made on windows of a batch, the oldest first; the last on the same candidates and the
-- same reference is the one in force.
SELECT DISTINCT d.decision_id, d.window_id, d.candidate_set_sha256, d.reference_sha256, d.created_at
FROM retention_decisions d
JOIN batch_windows w ON w.window_id = d.window_id AND w.first_upload_at = d.first_upload_at
WHERE w.batch = $batch AND d.policy_recipe_id = $recipe
ORDER BY d.created_at, d.decision_id DESC;
