-- What was taken down, or shown again, that a window belongs to: its clip, its file, a batch that holds them.
SELECT object_kind, object_id, reason_code, detail, requested_by, files, created_at
FROM tombstones
WHERE (object_kind = 'clip' AND object_id IN ($clip, $source))
   OR (object_kind = 'batch' AND object_id IN (SELECT batch FROM uploads WHERE clip_id IN ($clip, $source)))
ORDER BY created_at, object_kind, object_id;
