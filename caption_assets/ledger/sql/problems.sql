-- Everything of a batch that failed, with its reason.
SELECT 'file' AS what, path AS name, error FROM live_uploads WHERE batch = $batch AND status = 'quarantined'
UNION ALL
SELECT 'split', m.path, s.error
FROM missing_splits m
JOIN clip_sets s ON s.source_clip_id = m.clip_id AND s.recipe_id = m.recipe_id
WHERE m.batch = $batch
QUALIFY row_number() OVER (PARTITION BY m.path ORDER BY s.created_at DESC, s.run_id) = 1
UNION ALL
SELECT 'clip', b.name, s.error
FROM missing_windows b
JOIN window_sets s ON s.clip_id = b.clip_id AND s.recipe_id = b.recipe_id
WHERE b.batch = $batch
QUALIFY row_number() OVER (PARTITION BY b.name ORDER BY s.created_at DESC) = 1
UNION ALL
SELECT 'window', name || ' window ' || window_index, error FROM batch_windows WHERE batch = $batch AND status = 'error'
UNION ALL
SELECT 'caption', w.name || ' window ' || w.window_index, coalesce(k.error, 'it was not captioned: the run ended before')
FROM missing_captions m
JOIN batch_windows w ON w.batch = m.batch AND w.window_id = m.window_id
LEFT JOIN caption_candidates k ON k.window_id = m.window_id AND k.first_upload_at = w.first_upload_at AND k.recipe_id = m.recipe_id AND k.status = 'error'
WHERE m.batch = $batch
QUALIFY row_number() OVER (PARTITION BY m.window_id ORDER BY k.attempt DESC, k.sample_index) = 1
UNION ALL
SELECT 'caption', w.name || ' window ' || w.window_index,
       'every candidate was dropped: ' || string_agg(DISTINCT d.reason_code, ', ' ORDER BY d.reason_code)
FROM batch_windows w
JOIN batch_decisions b ON b.batch = w.batch AND b.window_id = w.window_id
JOIN retention_decisions d
  ON d.decision_id = b.decision_id AND d.window_id = b.decided_window_id AND d.first_upload_at = b.first_upload_at
WHERE w.batch = $batch AND b.duplicate_of IS NULL AND NOT starts_with(b.decided_by, 'user:')
  AND NOT EXISTS (SELECT 1 FROM missing_captions m WHERE m.batch = w.batch AND m.window_id = w.window_id)
GROUP BY w.name, w.window_index
HAVING count(*) FILTER (d.action = 'keep') = 0
UNION ALL
SELECT 'enhancement', w.name || ' window ' || w.window_index, e.error
FROM batch_windows w
JOIN batch_decisions b ON b.batch = w.batch AND b.window_id = w.window_id AND b.duplicate_of IS NULL
JOIN retention_decisions d
  ON d.decision_id = b.decision_id AND d.window_id = b.decided_window_id AND d.first_upload_at = b.first_upload_at AND d.action = 'keep'
JOIN current_recipes r ON r.kind = 'enhance' AND r.batch = w.batch
JOIN enhanced_captions e ON e.candidate_id = d.candidate_id AND e.first_upload_at = d.first_upload_at AND e.recipe_id = r.recipe_id
WHERE w.batch = $batch
QUALIFY row_number() OVER (PARTITION BY e.candidate_id ORDER BY e.attempt DESC) = 1 AND e.status = 'error'
UNION ALL
SELECT 'preview', w.name || ' window ' || w.window_index, p.error
FROM batch_windows w JOIN batch_previews p ON p.batch = w.batch AND p.window_id = w.window_id
WHERE w.batch = $batch AND p.status = 'error'
ORDER BY what, name;
