-- The newest drift check of each enhancement of a batch's windows, under one enhance recipe and one drift recipe.
SELECT c.check_id, c.enhanced_id, c.candidate_id, c.window_id, c.status, c.reason, c.evidence
FROM drift_checks c
JOIN enhanced_captions e ON e.enhanced_id = c.enhanced_id AND e.recipe_id = $enhance
WHERE c.recipe_id = $drift AND c.window_id IN (SELECT window_id FROM batch_windows WHERE batch = $batch)
QUALIFY row_number() OVER (PARTITION BY c.enhanced_id ORDER BY c.created_at DESC, c.check_id) = 1
ORDER BY c.enhanced_id;
