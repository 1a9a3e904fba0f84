-- Windows of a batch with fewer good candidates than the current recipe asks for. A collapsed window needs none; the one
-- that stands for it may not be collapsed itself, for then nothing would be captioned.
SELECT w.name AS path, w.window_index, m.window_id, m.n_missing
FROM missing_captions m
JOIN batch_windows w ON w.batch = m.batch AND w.window_id = m.window_id
WHERE m.batch = $batch
UNION ALL
SELECT w.name, w.window_index, d.window_id, NULL
FROM batch_duplicates d
JOIN batch_duplicates again ON again.batch = d.batch AND again.window_id = d.duplicate_of
JOIN batch_windows w ON w.batch = d.batch AND w.window_id = d.window_id
WHERE d.batch = $batch
ORDER BY path, window_index;
