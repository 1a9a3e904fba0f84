-- The decisions that a policy has made on windows of a batch.
SELECT DISTINCT d.decision_id
FROM retention_decisions d
JOIN batch_windows w ON w.window_id = d.window_id AND w.first_upload_at = d.first_upload_at
WHERE w.batch = $batch AND d.policy_recipe_id = $recipe;
