-- Counts per batch and stage.
WITH decided AS MATERIALIZED (SELECT * FROM batch_decisions WHERE $batch IS NULL OR batch = $batch),
files AS (
  SELECT batch, count(*) FILTER (WHERE status = 'ok') AS files_ok,
         count(*) FILTER (WHERE status = 'quarantined') AS files_quarantined,
         count(*) FILTER (WHERE status = 'gone') AS files_gone
  FROM live_uploads GROUP BY batch
),
cut AS (
  SELECT batch, count(*) FILTER (WHERE status = 'ok') AS windows_ok, count(*) FILTER (WHERE status = 'error') AS windows_error
  FROM batch_windows GROUP BY batch
),
unsplit AS (SELECT batch, count(*) AS files_not_split FROM missing_splits GROUP BY batch),
uncut AS (SELECT batch, count(*) AS clips_without_windows FROM missing_windows GROUP BY batch),
merged AS (
  SELECT d.batch, count(*) AS collapsed
  FROM batch_duplicates d
  LEFT JOIN decided b ON b.batch = d.batch AND b.window_id = d.window_id
  WHERE b.window_id IS NULL OR b.duplicate_of IS NOT NULL
  GROUP BY d.batch
),
uncaptioned AS (SELECT batch, count(*) AS captions_missing FROM missing_captions GROUP BY batch),
served AS (
  SELECT b.batch, count(DISTINCT b.window_id) AS captioned,
         count(DISTINCT b.window_id) FILTER (WHERE NOT b.is_current) AS captions_not_current
  FROM decided b
  JOIN retention_decisions d
    ON d.decision_id = b.decision_id AND d.window_id = b.decided_window_id AND d.first_upload_at = b.first_upload_at AND d.action = 'keep'
  GROUP BY b.batch
),
improved AS (
  SELECT w.batch, count(DISTINCT w.window_id) FILTER (e.enhanced_status IN ('ok', 'truncated', 'flagged')) AS enhanced,
         count(DISTINCT w.window_id) FILTER (e.drift = 'drifted') AS enhancements_drifted
  FROM decided w
  JOIN retention_decisions d
    ON d.decision_id = w.decision_id AND d.window_id = w.decided_window_id AND d.first_upload_at = w.first_upload_at AND d.action = 'keep'
  JOIN enhancement_rules r ON r.batch = w.batch
  JOIN shown_enhancements e
    ON e.candidate_id = d.candidate_id AND e.first_upload_at = d.first_upload_at AND e.enhance_recipe_id = r.enhance_recipe_id
   AND e.on_drift = r.on_drift AND e.drift_recipe_id IS NOT DISTINCT FROM r.drift_recipe_id
  GROUP BY w.batch
),
shown AS (
  SELECT w.batch, count(DISTINCT w.window_id) AS previews
  FROM batch_previews w WHERE w.status = 'ok'
  GROUP BY w.batch
)
SELECT f.batch, f.files_ok, f.files_quarantined, f.files_gone, coalesce(files_not_split, 0) AS files_not_split,
       coalesce(windows_ok, 0) AS windows_ok,
       coalesce(windows_error, 0) AS windows_error, coalesce(clips_without_windows, 0) AS clips_without_windows,
       coalesce(collapsed, 0) AS collapsed, coalesce(captioned, 0) AS captioned, coalesce(captions_not_current, 0) AS captions_not_current,
       coalesce(captions_missing, 0) AS captions_missing, coalesce(enhanced, 0) AS enhanced,
       coalesce(enhancements_drifted, 0) AS enhancements_drifted,
       coalesce(previews, 0) AS previews
FROM files f
LEFT JOIN cut USING (batch)
LEFT JOIN unsplit USING (batch)
LEFT JOIN uncut USING (batch)
LEFT JOIN merged USING (batch)
LEFT JOIN uncaptioned USING (batch)
LEFT JOIN served USING (batch)
LEFT JOIN improved USING (batch)
LEFT JOIN shown USING (batch)
WHERE $batch IS NULL OR f.batch = $batch
ORDER BY f.batch;
