-- Files of a batch that were split and whose frames are not each in exactly one clip.
SELECT f.path, f.clip_id, w.n_frames, count(*) AS n_clips, sum(p.n_frames) AS covered
FROM batch_files f
JOIN current_splits r ON r.batch = f.batch
JOIN split_clips p ON p.source_clip_id = f.clip_id AND p.recipe_id = r.recipe_id
JOIN (
  SELECT clip_id, arg_max(n_frames, created_at) AS n_frames FROM clips WHERE source_clip_id IS NULL GROUP BY clip_id
) w ON w.clip_id = f.clip_id
WHERE f.batch = $batch
GROUP BY f.path, f.clip_id, w.n_frames
HAVING min(coalesce(p.source_start_frame, 0)) <> 0
    OR max(coalesce(p.source_end_frame, w.n_frames - 1)) <> w.n_frames - 1
    OR sum(p.n_frames) <> w.n_frames
    OR bool_or(p.n_frames <> p.source_end_frame - p.source_start_frame + 1)
    OR count(DISTINCT coalesce(p.source_start_frame, 0)) <> count(*)
ORDER BY f.path;
