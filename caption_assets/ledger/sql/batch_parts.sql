-- The clips that the files of a batch are split into, in order. A file that is one clip has no times of its own.
SELECT b.path, coalesce(c.source_start_s, 0) AS start_s, coalesce(c.source_end_s, c.duration_s) AS end_s, c.n_frames,
       c.cut_score, b.clip_id
FROM batch_clips b
JOIN clips c ON c.clip_id = b.clip_id AND c.recipe_id = b.split_recipe_id
WHERE b.batch = $batch
ORDER BY b.path, b.source_start_frame;
