-- The files that hold a clip, taken down or not: as they were recorded last. clip_id is that of the whole file.
SELECT batch, path, clip_id, sha256, status
FROM (
  SELECT * FROM uploads
  QUALIFY row_number() OVER (PARTITION BY batch, path ORDER BY created_at DESC, run_id) = 1
)
WHERE clip_id IN (
  SELECT $clip
  UNION ALL
  SELECT source_clip_id FROM clips WHERE clip_id = $clip AND source_clip_id IS NOT NULL
)
ORDER BY batch, path;
