-- What was taken down, or shown again, that a window belongs to: its clip, its file, a batch that holds them.
WITH clip AS (
  SELECT clip_id FROM windows WHERE window_id = $window
),
sources AS (
  SELECT clip_id FROM clip
  UNION
  SELECT c.source_clip_id FROM clips c JOIN clip USING (clip_id) WHERE c.source_clip_id IS NOT NULL
)
SELECT object_kind, object_id, reason_code, detail, requested_by, files, created_at
FROM tombstones
WHERE (object_kind = 'clip' AND object_id IN (SELECT clip_id FROM sources))
   OR (object_kind = 'batch' AND object_id IN (SELECT batch FROM uploads WHERE clip_id IN (SELECT clip_id FROM sources)))
ORDER BY created_at, object_kind, object_id;
