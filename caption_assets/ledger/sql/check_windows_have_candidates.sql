-- Windows of a batch with fewer good candidates than the current recipe asks for.
SELECT w.name AS path, w.window_index, m.window_id, m.n_missing
FROM missing_captions m
JOIN batch_windows w ON w.batch = m.batch AND w.window_id = m.window_id
WHERE m.batch = $batch
ORDER BY w.name, w.window_index;
