-- The decisions that a policy has made on windows of a batch.
SELECT DISTINCT d.decision_id
FROM retention_decisions d
JOIN batch_windows w ON w.window_id = d.window_id AND w.home_batch = d.home_batch
WHERE w.batch = $batch AND d.policy_recipe_id = $recipe;
