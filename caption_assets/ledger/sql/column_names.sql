-- The keys that any file of a batch has, in its JSON sidecar or in the sample that it was imported with.
SELECT DISTINCT unnest(json_keys(columns)) AS name
FROM (
  SELECT columns FROM live_uploads WHERE batch = $batch AND clip_id IS NOT NULL
  UNION ALL
  SELECT columns FROM samples WHERE batch = $batch
)
ORDER BY name;
