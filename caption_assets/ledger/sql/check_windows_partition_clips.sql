-- Clips of a batch whose frames are not each in exactly one window.
SELECT b.name AS path, c.clip_id, c.n_frames, count(w.window_id) AS n_windows,
       sum(w.end_frame - w.start_frame + 1) AS covered
FROM batch_window_sets b
JOIN live_clips c ON c.clip_id = b.clip_id
LEFT JOIN windows w ON w.clip_id = b.clip_id AND w.recipe_id = b.recipe_id AND w.first_upload_at = b.first_upload_at
WHERE b.batch = $batch AND b.status = 'ok'
GROUP BY b.name, c.clip_id, c.n_frames
HAVING count(w.window_id) = 0
    OR min(w.start_frame) <> 0
    OR max(w.end_frame) <> c.n_frames - 1
    OR sum(w.end_frame - w.start_frame + 1) <> c.n_frames
    OR count(DISTINCT w.start_frame) <> count(*)
ORDER BY b.name;
