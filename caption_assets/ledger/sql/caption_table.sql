-- The caption table of a batch: one row per window, with the caption that is served and everything that made it.
WITH decided AS MATERIALIZED (
  SELECT * FROM batch_decisions WHERE batch = $batch
),
kept AS (
  SELECT b.batch, b.window_id, b.first_upload_at, b.is_current, b.decision_id, d.candidate_id, d.rank, d.reason_code, d.policy, d.decided_by,
         k.text, k.status, k.stage, k.seed, k.recipe_id
  FROM decided b
  JOIN retention_decisions d
    ON d.decision_id = b.decision_id AND d.window_id = b.decided_window_id AND d.first_upload_at = b.first_upload_at AND d.action = 'keep'
  JOIN caption_candidates k ON k.candidate_id = d.candidate_id AND k.first_upload_at = d.first_upload_at
),
best AS (
  SELECT * FROM kept QUALIFY row_number() OVER (PARTITION BY window_id ORDER BY rank, candidate_id) = 1
),
every AS (
  SELECT window_id, list(text ORDER BY rank, candidate_id) AS captions FROM kept GROUP BY window_id
),
considered AS (
  SELECT b.window_id, count(*) AS n_candidates,
         string_agg(DISTINCT d.reason_code, ', ' ORDER BY d.reason_code) AS reasons
  FROM decided b
  JOIN retention_decisions d
    ON d.decision_id = b.decision_id AND d.window_id = b.decided_window_id AND d.first_upload_at = b.first_upload_at
  GROUP BY b.window_id
),
rules AS MATERIALIZED (
  SELECT * FROM enhancement_rules WHERE batch = $batch
),
enhanced AS (
  SELECT e.*
  FROM rules r
  JOIN (SELECT DISTINCT first_upload_at FROM batch_window_sets WHERE batch = $batch) h ON true
  JOIN shown_enhancements e
    ON e.first_upload_at = h.first_upload_at AND e.enhance_recipe_id = r.enhance_recipe_id AND e.on_drift = r.on_drift
   AND e.drift_recipe_id IS NOT DISTINCT FROM r.drift_recipe_id
),
preview AS (
  SELECT * FROM batch_previews WHERE batch = $batch
)
SELECT w.batch, w.path AS clip_path, w.clip_id, c.video_sha256 AS clip_sha256, w.window_id, w.window_index,
       w.start_frame, w.end_frame, w.start_s, w.end_s, w.frame_indices, w.frame_times_s,
       w.clip_start_frame, w.clip_start_s, w.clip_start_s + w.start_s AS source_start_s,
       w.clip_start_s + w.end_s AS source_end_s,
       CASE WHEN w.status <> 'ok' THEN 'window_error'
            WHEN best.candidate_id IS NOT NULL THEN 'captioned'
            WHEN considered.window_id IS NULL THEN 'not_captioned'
            ELSE 'no_valid_candidate' END AS status,
       CASE WHEN w.status <> 'ok' THEN w.error
            WHEN best.candidate_id IS NULL AND considered.window_id IS NOT NULL
            THEN 'every candidate was dropped: ' || considered.reasons END AS error,
       best.text AS caption, every.captions, best.status AS caption_status, best.is_current, dup.duplicate_of,
       coalesce(considered.n_candidates, 0) AS n_candidates,
       enhanced_caption(e.enhanced_status, e.text, best.text) AS enhanced_caption,
       coalesce(e.enhanced_status, CASE WHEN s.skip IS NOT NULL THEN 'skipped' END) AS enhanced_status,
       coalesce(e.reason, s.skip) AS enhanced_reason,
       e.drift,
       w.original_caption,
       CASE WHEN p.status = 'ok' THEN p.uri END AS preview_path,
       CASE WHEN p.status = 'ok' THEN p.poster_uri END AS poster_path,
       cr.model_id, cr.model_revision, cr.engine, cr.engine_version, cr.prompt_sha256, pr.text AS prompt, best.seed,
       best.stage AS caption_stage,
       er.model_id AS enhance_model_id, er.model_revision AS enhance_model_revision,
       best.candidate_id, best.decision_id, best.reason_code, best.policy, best.decided_by,
       w.recipe_id AS window_recipe_id, best.recipe_id AS caption_recipe_id, e.enhance_recipe_id,
       p.recipe_id AS preview_recipe_id,
       c.codec, c.fps, c.n_frames, c.duration_s, c.display_width, c.display_height, c.has_audio, c.flags
FROM batch_windows w
JOIN live_clips c ON c.clip_id = w.clip_id
LEFT JOIN decided own ON own.window_id = w.window_id
LEFT JOIN batch_duplicates dup
  ON dup.batch = w.batch AND dup.window_id = w.window_id AND (own.window_id IS NULL OR own.duplicate_of IS NOT NULL)
LEFT JOIN best ON best.window_id = w.window_id
LEFT JOIN every ON every.window_id = w.window_id
LEFT JOIN considered ON considered.window_id = w.window_id
LEFT JOIN enhanced e ON e.candidate_id = best.candidate_id
LEFT JOIN rules r ON r.batch = w.batch
LEFT JOIN LATERAL (
  SELECT CASE WHEN r.batch IS NOT NULL AND e.candidate_id IS NULL
              THEN enhancement_skip(w.status, considered.window_id IS NOT NULL, best.status) END AS skip
) s ON true
LEFT JOIN preview p ON p.window_id = w.window_id
LEFT JOIN recipes cr ON cr.recipe_id = best.recipe_id
LEFT JOIN prompts pr ON pr.prompt_sha256 = cr.prompt_sha256
LEFT JOIN recipes er ON er.recipe_id = e.enhance_recipe_id
WHERE w.batch = $batch
ORDER BY w.path, w.clip_start_frame, w.start_frame;
