-- Why a window, or a caption of it, is not enhanced, per batch: enhancement_skips, with the right of each LEFT JOIN narrowed.
WITH shown AS MATERIALIZED (
  SELECT batch, decision_id, decided_window_id, duplicate_of
  FROM batch_decisions
  WHERE window_id = $window AND first_upload_at = $first_upload_at
)
SELECT w.batch, w.window_id, k.candidate_id,
       enhancement_skip(w.status, b.decision_id IS NOT NULL, k.status) AS reason_code
FROM batch_windows w
JOIN enhancement_rules r ON r.batch = w.batch
LEFT JOIN shown b ON b.batch = w.batch
LEFT JOIN (
  SELECT * FROM retention_decisions WHERE first_upload_at = $first_upload_at AND action = 'keep'
) d ON d.decision_id = b.decision_id AND d.window_id = b.decided_window_id
LEFT JOIN (
  SELECT * FROM caption_candidates WHERE first_upload_at = $first_upload_at
) k ON k.candidate_id = d.candidate_id
WHERE w.window_id = $window AND w.first_upload_at = $first_upload_at AND b.duplicate_of IS NULL
  AND enhancement_skip(w.status, b.decision_id IS NOT NULL, k.status) IS NOT NULL
ORDER BY ALL;
