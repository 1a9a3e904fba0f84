-- Windows that a policy has decided on, per caption recipe, and how many of the captions it keeps an enhance recipe has
-- not rewritten.
WITH newest AS (
  SELECT recipe_id, window_id, arg_max(decision_id, created_at) AS decision_id
  FROM retention_decisions
  WHERE policy_recipe_id = $policy AND recipe_id IN (SELECT unnest($captions))
  GROUP BY recipe_id, window_id
)
SELECT n.recipe_id, n.window_id, count(k.candidate_id) FILTER (WHERE e.candidate_id IS NULL) AS n_not_enhanced
FROM newest n
LEFT JOIN retention_decisions d ON d.decision_id = n.decision_id AND d.window_id = n.window_id AND d.action = 'keep'
LEFT JOIN caption_candidates k ON k.candidate_id = d.candidate_id AND k.status = 'ok'
LEFT JOIN (
  SELECT DISTINCT candidate_id FROM enhanced_captions WHERE recipe_id = $enhance AND status <> 'error'
) e ON e.candidate_id = k.candidate_id
GROUP BY n.recipe_id, n.window_id;
