-- What a key stands for, for each file of every batch, or of one: in its JSON sidecar, or in the sample that it was
-- imported with. is_there: the key is. text: its value, where that is a text. A file that is gone comes after the others.
WITH files AS (
  SELECT u.batch, u.clip_id, u.path, u.status, u.columns
  FROM live_uploads u
  WHERE u.clip_id IS NOT NULL AND ($batch IS NULL OR u.batch = $batch)
    AND NOT EXISTS (SELECT 1 FROM standing_takedowns t WHERE t.object_kind = 'clip' AND t.object_id = u.clip_id)
),
given AS (
  SELECT batch, clip_id, path, status, columns, -1 AS sample_index FROM files
  UNION ALL
  SELECT f.batch, f.clip_id, f.path, f.status, s.columns, s.sample_index
  FROM (SELECT batch, sample_index, columns, unnest(videos) AS path FROM samples) s
  JOIN files f ON f.batch = s.batch AND f.path = s.path
)
SELECT batch, clip_id, json_type(columns, $pointer) IS NOT NULL AS is_there,
       CASE WHEN json_type(columns, $pointer) = 'VARCHAR' THEN json_extract_string(columns, $pointer) END AS text
FROM given
ORDER BY batch, status <> 'ok', path, sample_index;
