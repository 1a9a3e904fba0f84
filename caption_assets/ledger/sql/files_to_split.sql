-- Files of a batch that its current recipe is to split, as they were registered, and the newest facts of each.
SELECT m.path, u.bytes AS file_bytes, u.mtime_ns, c.*
FROM missing_splits m
JOIN live_uploads u ON u.batch = m.batch AND u.path = m.path
JOIN clips c ON c.clip_id = m.clip_id
WHERE m.batch = $batch
QUALIFY row_number() OVER (PARTITION BY m.path ORDER BY c.created_at DESC, c.recipe_id) = 1
ORDER BY m.path;
