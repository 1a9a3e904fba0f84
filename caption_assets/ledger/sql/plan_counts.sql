-- What every batch, or one, would make under other recipes, counted: `cli/plan.py` says what the numbers mean.
--
-- Windows are counted by the frames of their clips. Those of which something is there are looked at one by one; all others
-- lack everything. So what nothing was made of yet costs nothing.
--
-- $shapes are the ways in which a stride would split files, by number of frames, rate and seconds: the first frames of
-- the parts. $alike are the windows that look like an earlier one. $enhance is NULL where nothing is enhanced. $own are the
-- files of batches that have another caption recipe than $caption: what is there of their windows is counted apart, so that
-- it costs nothing where there are none.
WITH probed_again AS MATERIALIZED (SELECT clip_id FROM clips GROUP BY clip_id HAVING count(*) > 1),
facts AS (
  SELECT * FROM clips ANTI JOIN probed_again USING (clip_id)
  UNION ALL
  SELECT * FROM clips SEMI JOIN probed_again USING (clip_id)
  QUALIFY row_number() OVER (PARTITION BY clip_id ORDER BY created_at DESC, recipe_id) = 1
),
own AS MATERIALIZED (
  SELECT unnest(
    from_json($own, '[{"batch": "VARCHAR", "source_clip_id": "VARCHAR", "recipe_id": "VARCHAR"}]'), max_depth := 2)
),
files AS MATERIALIZED (
  SELECT l.batch, l.clip_id, l.clip_recipe_id, coalesce(o.recipe_id, $caption) AS caption_id, f.n_frames, f.fps, f.duration_s, f.video_sha256, h.first_upload_at,
         l.clip_id IN (SELECT source_clip_id FROM split_clips WHERE recipe_id = $split) AS is_split
  FROM (
    SELECT batch, clip_id,
           coalesce(arg_min(recipe_id, path) FILTER (status = 'ok'), arg_min(recipe_id, path)) AS clip_recipe_id
    FROM live_uploads
    WHERE clip_id IS NOT NULL AND ($batch IS NULL OR batch = $batch)
    GROUP BY batch, clip_id
  ) l
  JOIN facts f ON f.clip_id = l.clip_id
  JOIN clip_first_uploads h ON h.clip_id = l.clip_id
  LEFT JOIN own o ON o.batch = l.batch AND o.source_clip_id = l.clip_id
  ANTI JOIN standing_takedowns t ON t.object_kind = 'clip' AND t.object_id = l.clip_id
),
hidden AS MATERIALIZED (FROM hidden_frames),
shapes AS MATERIALIZED (
  SELECT unnest(
    from_json($shapes, '[{"n_frames": "INTEGER", "fps": "DOUBLE", "duration_s": "DOUBLE", "first_frames": ["INTEGER"]}]'),
    max_depth := 2)
),
-- Parts that a stride would make. Only where the file was split before some way can one of them be known by its id.
parts AS (
  SELECT batch, source_clip_id, caption_id, n_frames, first_upload_at, first_frame, last_frame,
         CASE WHEN was_split
              THEN 'c' || sha256(concat_ws(chr(31), video_sha256, first_frame, last_frame))[:32] END AS clip_id
  FROM (
    SELECT f.batch, f.clip_id AS source_clip_id, f.caption_id, f.video_sha256, f.first_upload_at,
           f.clip_id IN (SELECT source_clip_id FROM clips WHERE source_clip_id IS NOT NULL) AS was_split,
           unnest(s.first_frames) AS first_frame,
           unnest(list_append(list_transform(s.first_frames[2:], lambda x: x - 1), f.n_frames - 1)) AS last_frame,
           last_frame - first_frame + 1 AS n_frames
    FROM files f
    JOIN shapes s ON s.n_frames = f.n_frames AND s.fps = f.fps AND s.duration_s = f.duration_s
    WHERE NOT f.is_split
  )
),
clips_then AS MATERIALIZED (
  SELECT *,
         CASE WHEN n_frames < 4 THEN 0
              WHEN n_frames <= $size THEN 1
              ELSE n_frames // $size + (n_frames % $size >= greatest($threshold, 4))::INT END AS n_windows
  FROM (
    SELECT f.batch, f.clip_id, f.caption_id, f.n_frames, f.first_upload_at
    FROM files f
    ANTI JOIN shapes s ON s.n_frames = f.n_frames AND s.fps = f.fps AND s.duration_s = f.duration_s
    ANTI JOIN hidden h ON h.source_clip_id = f.clip_id AND NOT $scenes
    WHERE NOT f.is_split
    UNION ALL
    SELECT f.batch, s.clip_id, f.caption_id, s.n_frames, f.first_upload_at
    FROM files f
    JOIN split_clips s ON s.source_clip_id = f.clip_id AND s.recipe_id = $split
    ANTI JOIN hidden h
      ON h.source_clip_id = f.clip_id AND h.source_start_frame <= coalesce(s.source_end_frame, s.n_frames - 1)
     AND h.source_end_frame >= coalesce(s.source_start_frame, 0)
    UNION ALL
    SELECT p.batch, p.clip_id, p.caption_id, p.n_frames, p.first_upload_at
    FROM parts p
    ANTI JOIN hidden h
      ON h.source_clip_id = p.source_clip_id AND h.source_start_frame <= p.last_frame AND h.source_end_frame >= p.first_frame
  )
),
-- Clips with a complete set of windows.
cut AS MATERIALIZED (
  SELECT s.clip_id
  FROM window_sets s
  LEFT JOIN (SELECT clip_id, first_upload_at, count(*) AS n FROM windows WHERE recipe_id = $window GROUP BY ALL) w
    ON w.clip_id = s.clip_id AND w.first_upload_at = s.first_upload_at
  WHERE s.recipe_id = $window AND s.status <> 'error' AND s.n_windows = coalesce(w.n, 0)
),
made AS MATERIALIZED (
  SELECT DISTINCT window_id FROM previews WHERE recipe_id = $preview AND status = 'ok' AND uri IS NOT NULL
),
-- The newest row of a window in a folder says what lies there: to be asked of windows that have other rows too.
contested AS MATERIALIZED (
  SELECT DISTINCT window_id
  FROM previews SEMI JOIN made USING (window_id)
  WHERE uri IS NOT NULL AND (recipe_id <> $preview OR status <> 'ok')
),
shown AS (
  FROM made ANTI JOIN contested USING (window_id)
  UNION ALL
  SELECT window_id
  FROM (
    SELECT * FROM previews SEMI JOIN contested USING (window_id)
    WHERE uri IS NOT NULL
    QUALIFY row_number() OVER (PARTITION BY window_id, parse_dirpath(uri) ORDER BY created_at DESC, run_id) = 1
  )
  WHERE recipe_id = $preview AND status = 'ok'
),
-- What is there of each window.
there AS MATERIALIZED (
  SELECT window_id, least(bit_count(coalesce(bit_or(sample), 0)), $n) AS n_good, max(decided_at) AS decided_at,
         count(previewed) > 0 AS is_shown, count(alike) > 0 AS is_alike
  FROM (
    SELECT window_id, 1::UBIGINT << sample_index::UBIGINT AS sample, NULL::TIMESTAMPTZ AS decided_at, NULL AS previewed,
           NULL AS alike
    FROM caption_candidates
    WHERE recipe_id = $caption AND stage = $stage AND status <> 'error'
    UNION ALL
    SELECT window_id, NULL, created_at, NULL, NULL
    FROM retention_decisions
    WHERE policy_recipe_id = $policy AND recipe_id = $caption
    UNION ALL
    SELECT window_id, NULL, NULL, 1, NULL FROM shown
    UNION ALL
    SELECT unnest($alike::VARCHAR[]), NULL, NULL, NULL, 1
  )
  GROUP BY window_id
),
there_own AS MATERIALIZED (
  SELECT window_id, recipe_id, least(bit_count(coalesce(bit_or(sample), 0)), $n) AS n_good, max(decided_at) AS decided_at
  FROM (
    SELECT window_id, recipe_id, 1::UBIGINT << sample_index::UBIGINT AS sample, NULL::TIMESTAMPTZ AS decided_at
    FROM caption_candidates SEMI JOIN own USING (recipe_id)
    WHERE stage = $stage AND status <> 'error'
    UNION ALL
    SELECT window_id, recipe_id, NULL, created_at
    FROM retention_decisions SEMI JOIN own USING (recipe_id)
    WHERE policy_recipe_id = $policy
  )
  GROUP BY window_id, recipe_id
),
something AS (SELECT window_id FROM there UNION ALL SELECT window_id FROM there_own),
-- The rows of a window that a rebuild had to leave out wait for it: they are found by the id that it will have again.
waiting AS MATERIALIZED (
  SELECT window_id FROM caption_candidates WHERE first_upload_at = 'epoch' AND recipe_id = $caption
  UNION
  SELECT window_id FROM caption_candidates SEMI JOIN own USING (recipe_id) WHERE first_upload_at = 'epoch'
  UNION
  SELECT window_id FROM retention_decisions WHERE first_upload_at = 'epoch' AND policy_recipe_id = $policy
  UNION
  SELECT window_id FROM previews WHERE first_upload_at = 'epoch' AND recipe_id = $preview
),
known_windows AS MATERIALIZED (
  SELECT c.batch, w.window_id, c.caption_id, w.is_damaged
  FROM clips_then c
  JOIN (
    SELECT window_id, clip_id, first_upload_at, start_frame, end_frame, status = 'error' AS is_damaged
    FROM windows SEMI JOIN something USING (window_id)
    WHERE recipe_id = $window
    UNION ALL
    SELECT window_id, clip_id, first_upload_at, start_frame, end_frame, true
    FROM windows ANTI JOIN something USING (window_id)
    WHERE recipe_id = $window AND status = 'error'
  ) w ON w.clip_id = c.clip_id AND w.first_upload_at = c.first_upload_at
  WHERE w.start_frame % $size = 0
    AND w.end_frame = CASE WHEN w.start_frame // $size = c.n_windows - 1 THEN c.n_frames - 1
                           WHEN w.start_frame // $size < c.n_windows THEN w.start_frame + $size - 1 END
  UNION ALL
  SELECT i.batch, i.window_id, i.caption_id, false
  FROM (
    SELECT batch, caption_id, 'w' || sha256(concat_ws(chr(31), clip_id, i * $size,
                                           if(i = n_windows - 1, n_frames, (i + 1) * $size) - 1, $window))[:32] AS window_id
    FROM (SELECT *, unnest(range(n_windows)) AS i FROM clips_then WHERE EXISTS (FROM waiting))
  ) i
  SEMI JOIN waiting USING (window_id)
  ANTI JOIN windows USING (window_id)
),
looked_at AS (
  SELECT *, NOT is_damaged AND NOT (is_alike AND n_good = 0) AS is_own,
         if(is_own AND NOT is_alike, $n - n_good, 0) AS n_missing,
         is_own AND (n_missing > 0 OR decided_at IS NULL) AS is_to_decide
  FROM (
    SELECT k.batch, k.window_id, k.caption_id, k.is_damaged,
           if(k.caption_id = $caption, t.decided_at, o.decided_at) AS decided_at,
           coalesce(if(k.caption_id = $caption, t.n_good, o.n_good), 0) AS n_good, coalesce(t.is_shown, false) AS is_shown, coalesce(t.is_alike, false) AS is_alike
    FROM known_windows k
    LEFT JOIN there t ON t.window_id = k.window_id
    LEFT JOIN there_own o ON o.window_id = k.window_id AND o.recipe_id = k.caption_id
  )
),
-- Captions that the newest decision keeps and nothing enhances.
kept AS MATERIALIZED (
  SELECT l.batch, d.candidate_id
  FROM looked_at l
  JOIN retention_decisions d
    ON d.window_id = l.window_id AND d.created_at = l.decided_at AND d.action = 'keep' AND d.policy_recipe_id = $policy
   AND d.recipe_id = l.caption_id
  ANTI JOIN enhanced_captions e ON e.candidate_id = d.candidate_id AND e.recipe_id = $enhance AND e.status <> 'error'
  WHERE l.is_own AND NOT l.is_to_decide AND $enhance IS NOT NULL
),
counted AS (
  SELECT batch, sum(clips) AS clips, sum(clips_to_cut) AS clips_to_cut, sum(windows) AS windows, sum(collapsed) AS collapsed,
         sum(captions) AS captions, sum(decisions) AS decisions, sum(enhancements) AS enhancements, sum(previews) AS previews
  FROM (
    -- every window as one that lacks everything
    SELECT batch, count(*) AS clips, count(*) FILTER (clip_id IS NULL OR clip_id NOT IN (FROM cut)) AS clips_to_cut,
           sum(n_windows) AS windows, 0 AS collapsed, sum(n_windows) * $n AS captions, sum(n_windows) AS decisions,
           sum(n_windows) * $most_kept AS enhancements, sum(n_windows) AS previews
    FROM clips_then
    GROUP BY batch
    UNION ALL
    -- less what is there of those that were looked at
    SELECT batch, 0, 0, -count(*) FILTER (is_damaged), count(*) FILTER (NOT is_damaged AND NOT is_own), sum(n_missing - $n),
           -count(*) FILTER (NOT is_to_decide), -count(*) FILTER (NOT is_to_decide) * $most_kept,
           -count(*) FILTER (is_damaged OR is_shown)
    FROM looked_at
    GROUP BY batch
    UNION ALL
    SELECT batch, 0, 0, 0, 0, 0, 0, count(*), 0
    FROM kept JOIN caption_candidates k ON k.candidate_id = kept.candidate_id AND k.status = 'ok'
    GROUP BY batch
  )
  GROUP BY batch
)
SELECT f.batch, coalesce(c.clips, 0)::BIGINT AS clips, f.files_to_probe, f.files_to_split,
       coalesce(c.clips_to_cut, 0)::BIGINT AS clips_to_cut, coalesce(c.windows, 0)::BIGINT AS windows,
       coalesce(c.collapsed, 0)::BIGINT AS collapsed, coalesce(c.captions, 0)::BIGINT AS captions,
       coalesce(c.decisions, 0)::BIGINT AS decisions,
       if($enhance IS NULL, 0, coalesce(c.enhancements, 0))::BIGINT AS enhancements,
       coalesce(c.previews, 0)::BIGINT AS previews
FROM (
  SELECT batch, count(*) FILTER (clip_recipe_id <> $probing) AS files_to_probe,
         count(*) FILTER (NOT is_split AND $splits) AS files_to_split
  FROM files
  GROUP BY batch
) f
LEFT JOIN counted c ON c.batch = f.batch
ORDER BY f.batch;
