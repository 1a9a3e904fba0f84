-- The rows of a takedown that stands: those since it was last withdrawn.
SELECT reason_code, files, created_at
FROM tombstones t
WHERE object_kind = $kind AND object_id = $object AND reason_code <> 'WITHDRAWN'
  AND created_at > coalesce((
    SELECT max(created_at) FROM tombstones w
    WHERE w.object_kind = $kind AND w.object_id = $object AND w.reason_code = 'WITHDRAWN'
  ), TIMESTAMPTZ '-infinity');
