-- The enhancements of a window's captions, and of the window that stands for it, the newest first, each with its newest
-- drift check.
SELECT e.enhanced_id, e.candidate_id, e.status, e.text, e.error, e.seed, r.model_id, r.model_revision, r.engine,
       r.engine_version, p.name AS prompt_name, c.status AS drift, c.reason AS drift_reason, c.evidence, e.created_at
FROM enhanced_captions e
JOIN recipes r ON r.recipe_id = e.recipe_id
LEFT JOIN prompts p ON p.prompt_sha256 = r.prompt_sha256
LEFT JOIN drift_checks c ON c.enhanced_id = e.enhanced_id AND c.first_upload_at = e.first_upload_at
WHERE e.first_upload_at = $first_upload_at
  AND e.window_id IN ($window, $decided_window)
QUALIFY row_number() OVER (PARTITION BY e.enhanced_id ORDER BY c.created_at DESC, c.check_id) = 1
ORDER BY e.created_at DESC, e.enhanced_id;
