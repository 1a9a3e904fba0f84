-- How long the files are that a split recipe has not split: each number of frames, rate and seconds once.
SELECT DISTINCT c.n_frames, c.fps, c.duration_s
FROM batch_files f
JOIN clips c ON c.clip_id = f.clip_id AND c.source_clip_id IS NULL
WHERE ($batch IS NULL OR f.batch = $batch)
  AND f.clip_id NOT IN (SELECT source_clip_id FROM split_clips WHERE recipe_id = $split);
