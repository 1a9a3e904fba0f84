-- The clips that every batch, or one, would have under a split recipe, and whether a window recipe has cut them. A file
-- that the recipe has not split stands here as it is.
SELECT f.batch, f.clip_id AS source_clip_id, coalesce(p.clip_id, f.clip_id) AS clip_id,
       coalesce(p.n_frames, w.n_frames) AS n_frames, w.video_sha256, w.fps, w.duration_s, u.recipe_id AS clip_recipe_id,
       p.clip_id IS NOT NULL AS is_split,
       EXISTS (
         SELECT 1 FROM complete_window_sets s
         WHERE s.clip_id = coalesce(p.clip_id, f.clip_id) AND s.recipe_id = $window
       ) AS is_cut
FROM batch_files f
JOIN live_uploads u ON u.batch = f.batch AND u.path = f.path
JOIN (
  SELECT * FROM clips QUALIFY row_number() OVER (PARTITION BY clip_id ORDER BY created_at DESC, recipe_id) = 1
) w ON w.clip_id = f.clip_id
LEFT JOIN split_clips p ON p.source_clip_id = f.clip_id AND p.recipe_id = $split
WHERE $batch IS NULL OR f.batch = $batch
ORDER BY f.batch, f.path, p.source_start_frame;
