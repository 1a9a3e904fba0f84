-- The decisions by which a window is collapsed, per batch, and whether the batch shows the other window's captions for it.
SELECT d.batch, d.duplicate_of, d.mode, d.distance, d.evidence, c.window_id IS NOT NULL AS is_shown
FROM batch_duplicates d
LEFT JOIN collapsed_windows c ON c.batch = d.batch AND c.window_id = d.window_id AND c.first_upload_at = d.first_upload_at
WHERE d.window_id = $window AND d.first_upload_at = $first_upload_at
ORDER BY d.batch;
