-- The windows of the files of a batch that no batch shows now, with every preview that was made of them.
SELECT DISTINCT w.window_id, p.uri, p.poster_uri
FROM windows w
LEFT JOIN previews p ON p.window_id = w.window_id
WHERE w.clip_id IN (
    SELECT coalesce(c.clip_id, u.clip_id)
    FROM uploads u
    LEFT JOIN clips c ON c.clip_id = u.clip_id OR c.source_clip_id = u.clip_id
    WHERE u.batch = $batch
  )
  AND w.window_id NOT IN (SELECT window_id FROM live_windows)
ORDER BY w.window_id, p.uri;
