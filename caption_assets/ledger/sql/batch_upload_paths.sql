-- Every path of a batch, and the one under which its content is shown: NULL where it is no clip, or taken down. Is a part
-- of a file taken down, then the file as a whole may not be shown.
SELECT u.path, u.clip_id, u.original_caption, f.path AS shown_path,
       u.clip_id IN (SELECT source_clip_id FROM hidden_frames) AS has_hidden_part
FROM (
  SELECT * FROM uploads WHERE batch = $batch
  QUALIFY row_number() OVER (PARTITION BY path ORDER BY created_at DESC, run_id) = 1
) u
LEFT JOIN batch_files f ON f.batch = u.batch AND f.clip_id = u.clip_id
ORDER BY u.path;
