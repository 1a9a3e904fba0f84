-- Texts that the current drift check of a batch calls drifted, or has not judged, where the batch falls back on captions.
SELECT e.candidate_id, e.text, coalesce(c.reason, 'it was not checked') AS reason
FROM current_recipes b
JOIN recipes b_rule ON b_rule.recipe_id = b.recipe_id AND (b_rule.params->>'on_drift') = 'fallback'
JOIN current_recipes r ON r.kind = 'enhance' AND r.batch = b.batch
JOIN current_recipes d ON d.kind = 'drift' AND d.batch = b.batch
JOIN enhanced_captions e ON e.recipe_id = r.recipe_id AND e.status IN ('ok', 'truncated')
LEFT JOIN drift_checks c ON c.enhanced_id = e.enhanced_id AND c.first_upload_at = e.first_upload_at AND c.recipe_id = d.recipe_id
WHERE b.kind = 'on_drift' AND b.batch = $batch
  AND e.window_id IN (SELECT window_id FROM batch_windows WHERE batch = $batch)
QUALIFY row_number() OVER (PARTITION BY e.enhanced_id ORDER BY c.created_at DESC, c.check_id) = 1
  AND c.status IS DISTINCT FROM 'ok' AND c.status IS DISTINCT FROM 'unchanged';
