-- The files of a batch as they are now, with the facts of their clips.
SELECT u.path, u.sha256, u.bytes, u.mtime_ns, u.sidecar_mtime_ns, u.columns_mtime_ns, u.recipe_id, u.status,
       u.error, u.clip_id, c.n_frames, c.duration_s, c.fps, c.codec, array_to_string(c.flags, ', ') AS flags
FROM live_uploads u
LEFT JOIN clips c ON c.clip_id = u.clip_id AND c.recipe_id = u.recipe_id
WHERE u.batch = $batch
ORDER BY u.path;
