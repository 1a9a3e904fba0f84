-- The public views. A file belongs to a batch through `uploads`, and its clips through the batch's split recipe; the same
-- clip in two batches is one clip.
--
-- How a statement stays fast. DuckDB plans a view by pasting its text, so that deep nesting costs more than the rows:
-- * What a batch holds and shows is kept as rows in batch_choices, batch_window_sets and batch_duplicates. Their text is in
--   the views `<name>_now`, which only `derived.py` reads, after commits that can change what they say.
-- * Every row about a window has `first_upload_at`, when a batch first held the clip. Rows of one time stand near each other
--   in every table. Join on it too (`k.window_id = w.window_id AND k.first_upload_at = w.first_upload_at`), and a question
--   about one batch reads that part of the table alone. Rows of one window always have the same.
-- * Join before grouping: a subquery that groups a whole table is run over the whole table. Likewise what is on the right
--   of a LEFT JOIN is read whole: narrow it there, by an inner join or a constant.
-- * A condition passes a window function where it is on what that partitions by: so first_upload_at stands there too.
-- * SEMI JOIN and ANTI JOIN, not EXISTS with a view inside, which is run per value.

-- When a batch first held each clip, a part of a file with its file.
CREATE OR REPLACE VIEW clip_first_uploads_now AS
SELECT clip_id, min(created_at) AS first_upload_at
FROM (
  SELECT clip_id, created_at FROM uploads WHERE clip_id IS NOT NULL
  UNION ALL
  SELECT c.clip_id, u.created_at FROM clips c JOIN uploads u ON u.clip_id = c.source_clip_id
)
GROUP BY clip_id;

CREATE TABLE IF NOT EXISTS clip_first_uploads AS FROM clip_first_uploads_now WITH NO DATA;

-- The newest row of each path: what the batch holds now.
CREATE OR REPLACE VIEW live_uploads AS
SELECT u.*
FROM uploads u
WHERE NOT EXISTS (SELECT 1 FROM standing_takedowns t WHERE t.object_kind = 'batch' AND t.object_id = u.batch)
QUALIFY row_number() OVER (PARTITION BY u.batch, u.path ORDER BY u.created_at DESC, u.run_id) = 1;

-- The recipe that is current for each stage of each batch.
CREATE OR REPLACE VIEW current_recipes AS
SELECT kind, batch, arg_max(recipe_id, valid_from) AS recipe_id
FROM active_recipes
GROUP BY kind, batch;

-- The caption recipe that is current for a clip of a batch in place of the batch's; NULL where it was and is not any more.
-- In a struct, since arg_max passes over NULLs. So does QUALIFY row_number() = 1 with one column beside its keys, inside a
-- transaction that adds the first NULL to it (DuckDB 1.5.6).
CREATE OR REPLACE VIEW current_clip_recipes AS
SELECT batch, clip_id, arg_max({'recipe_id': recipe_id}, valid_from).recipe_id AS recipe_id
FROM clip_recipes
GROUP BY batch, clip_id;

-- The split recipe of each batch that splits its files. A batch that is not here has whole files as clips.
CREATE OR REPLACE VIEW current_splits AS
SELECT c.batch, c.recipe_id
FROM current_recipes c
JOIN recipes r ON r.recipe_id = c.recipe_id
WHERE c.kind = 'split' AND (r.params->>'split') <> 'none';

-- The files of each batch by content, once each, under the first of their paths that is there; `clip_id` is the whole
-- file. A content whose files are all gone is served until a takedown: nothing disappears in silence.
CREATE OR REPLACE VIEW batch_files AS
SELECT u.batch, u.clip_id, coalesce(min(u.path) FILTER (u.status = 'ok'), min(u.path)) AS path,
       arg_min(u.original_caption, u.path) AS original_caption
FROM live_uploads u
WHERE u.clip_id IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM standing_takedowns t WHERE t.object_kind = 'clip' AND t.object_id = u.clip_id)
GROUP BY u.batch, u.clip_id;

-- What each file was split into: the clips of its newest set under each split recipe that are all there. A rebuild may
-- have had to leave a part out.
CREATE OR REPLACE VIEW split_clips AS
SELECT * EXCLUDE (n_clips, run_id, created_at)
FROM (
  SELECT s.source_clip_id, s.recipe_id, s.n_clips, s.run_id, s.created_at, c.clip_id, c.n_frames,
         c.source_start_frame, c.source_end_frame, c.source_start_s
  FROM (SELECT *, unnest(clip_ids) AS clip_id FROM clip_sets WHERE status = 'ok') s
  JOIN clips c ON c.clip_id = s.clip_id AND c.recipe_id = s.recipe_id
  QUALIFY count(*) OVER (PARTITION BY s.source_clip_id, s.recipe_id, s.run_id, s.created_at) = s.n_clips
)
QUALIFY dense_rank() OVER (PARTITION BY source_clip_id, recipe_id ORDER BY created_at DESC, run_id) = 1;

-- The frames of files that are hidden, since a part that holds them is taken down.
CREATE OR REPLACE VIEW hidden_frames AS
SELECT DISTINCT c.source_clip_id, c.source_start_frame, c.source_end_frame
FROM standing_takedowns t
JOIN clips c ON c.clip_id = t.object_id
WHERE t.object_kind = 'clip' AND c.source_clip_id IS NOT NULL;

-- Every way in which each file of a batch can be shown as clips: whole, and as each split recipe has split it, without
-- what holds a hidden frame. One of them is current, as soon as it is there. `name` is the path, and for a part of a file
-- where it begins.
CREATE OR REPLACE VIEW batch_file_clips_now AS
SELECT f.batch, f.path, f.original_caption, f.clip_id AS source_clip_id, f.clip_id, f.path AS name,
       NULL AS split_recipe_id, NULL::INTEGER AS source_start_frame, NULL::INTEGER AS source_end_frame,
       NULL::DOUBLE AS source_start_s, r.recipe_id IS NULL AS is_current
FROM batch_files f
LEFT JOIN current_splits r ON r.batch = f.batch
ANTI JOIN hidden_frames h ON h.source_clip_id = f.clip_id
UNION ALL
SELECT f.batch, f.path, f.original_caption, f.clip_id, p.clip_id,
       f.path || coalesce(printf(' from %.2f s', p.source_start_s), ''),
       p.recipe_id, p.source_start_frame, p.source_end_frame, p.source_start_s, coalesce(p.recipe_id = r.recipe_id, false)
FROM batch_files f
JOIN split_clips p ON p.source_clip_id = f.clip_id
LEFT JOIN current_splits r ON r.batch = f.batch
ANTI JOIN hidden_frames h
  ON h.source_clip_id = p.source_clip_id AND h.source_start_frame <= coalesce(p.source_end_frame, p.n_frames - 1)
 AND h.source_end_frame >= coalesce(p.source_start_frame, 0);

-- Files that the current recipe of their batch is to split and has not. One that is gone cannot be split any more.
CREATE OR REPLACE VIEW missing_splits AS
SELECT f.batch, f.clip_id, f.path, r.recipe_id
FROM batch_files f
JOIN current_splits r ON r.batch = f.batch
JOIN live_uploads u ON u.batch = f.batch AND u.path = f.path AND u.status = 'ok'
WHERE NOT EXISTS (SELECT 1 FROM split_clips p WHERE p.source_clip_id = f.clip_id AND p.recipe_id = r.recipe_id);

-- Window sets whose windows are all there: a rebuild may have had to leave a part out.
CREATE OR REPLACE VIEW complete_window_sets AS
SELECT s.*
FROM window_sets s
WHERE s.status <> 'error' AND s.n_windows = (
  SELECT count(*) FROM windows w
  WHERE w.clip_id = s.clip_id AND w.recipe_id = s.recipe_id AND w.first_upload_at = s.first_upload_at
);

-- Of the ways in which each file of a batch can be shown as clips, the one that is: the current one as soon as all its
-- clips have been cut into windows, well or not; until then the one that was cut before, the newest first.
CREATE OR REPLACE VIEW batch_choices_now AS
SELECT * EXCLUDE (all_cut, cut_at),
       dense_rank() OVER (
         PARTITION BY batch, source_clip_id
         ORDER BY all_cut DESC, is_current DESC, cut_at DESC NULLS LAST, split_recipe_id
       ) = 1 AS is_shown
FROM (
  SELECT b.*, h.first_upload_at, bool_and(w.cut_at IS NOT NULL) OVER way AS all_cut, max(w.cut_at) OVER way AS cut_at
  FROM batch_file_clips_now b
  JOIN clip_first_uploads h ON h.clip_id = b.clip_id
  LEFT JOIN (SELECT clip_id, max(created_at) AS cut_at FROM window_sets GROUP BY clip_id) w ON w.clip_id = b.clip_id
  WINDOW way AS (PARTITION BY b.batch, b.source_clip_id, b.split_recipe_id)
);

CREATE TABLE IF NOT EXISTS batch_choices AS FROM batch_choices_now WITH NO DATA;

CREATE OR REPLACE VIEW batch_file_clips AS
SELECT * EXCLUDE is_shown
FROM batch_choices;

-- The clips that each batch should have: its files, or their parts where its current recipe splits them.
CREATE OR REPLACE VIEW batch_clips AS
SELECT * EXCLUDE (is_current, is_shown)
FROM batch_choices
WHERE is_current;

-- Every clip that some batch holds or shows, with its newest facts.
CREATE OR REPLACE VIEW live_clips AS
SELECT c.*
FROM clips c
WHERE c.clip_id IN (SELECT clip_id FROM batch_choices WHERE is_current OR is_shown)
QUALIFY row_number() OVER (PARTITION BY c.clip_id ORDER BY c.created_at DESC, c.recipe_id) = 1;

-- The window set that a batch shows of a clip: the current recipe's, until it is there the newest complete one. And the
-- caption recipe that is current for the clip: its own, else the batch's.
CREATE OR REPLACE VIEW batch_window_sets_now AS
SELECT b.batch, b.clip_id, b.source_clip_id, b.path, b.name, b.original_caption,
       coalesce(b.source_start_frame, 0) AS clip_start_frame, coalesce(b.source_start_s, 0) AS clip_start_s,
       s.recipe_id, s.n_windows, s.status, s.error, s.first_upload_at,
       b.is_current AND coalesce(s.recipe_id = r.recipe_id, false) AS is_current,
       coalesce(o.recipe_id, c.recipe_id) AS caption_recipe_id
FROM batch_choices b
JOIN complete_window_sets s ON s.clip_id = b.clip_id
LEFT JOIN current_recipes r ON r.kind = 'window' AND r.batch = b.batch
LEFT JOIN current_recipes c ON c.kind = 'caption' AND c.batch = b.batch
LEFT JOIN current_clip_recipes o ON o.batch = b.batch AND o.clip_id = b.source_clip_id
WHERE b.is_shown
QUALIFY row_number() OVER (
  PARTITION BY b.batch, b.clip_id
  ORDER BY coalesce(s.recipe_id = r.recipe_id, false) DESC, s.created_at DESC, s.run_id
) = 1;

CREATE TABLE IF NOT EXISTS batch_window_sets AS FROM batch_window_sets_now WITH NO DATA;

CREATE OR REPLACE VIEW batch_windows AS
SELECT s.batch, s.path, s.name, s.source_clip_id, s.clip_start_frame, s.clip_start_s, s.original_caption,
       s.is_current AS window_is_current, s.caption_recipe_id, w.*
FROM batch_window_sets s
JOIN windows w ON w.clip_id = s.clip_id AND w.recipe_id = s.recipe_id AND w.first_upload_at = s.first_upload_at;

CREATE OR REPLACE VIEW live_windows AS
SELECT w.*
FROM windows w
WHERE EXISTS (SELECT 1 FROM batch_window_sets s WHERE s.clip_id = w.clip_id AND s.recipe_id = w.recipe_id);

-- Clips that have no complete window set under the recipe that is current for their batch.
CREATE OR REPLACE VIEW missing_windows AS
SELECT b.batch, b.clip_id, b.path, b.name, b.source_start_frame, b.source_end_frame, r.recipe_id
FROM batch_clips b
JOIN current_recipes r ON r.kind = 'window' AND r.batch = b.batch
WHERE NOT EXISTS (
  SELECT 1 FROM complete_window_sets s WHERE s.clip_id = b.clip_id AND s.recipe_id = r.recipe_id
);

-- Windows that are collapsed into an earlier window of their clip, by the dedupe recipe that is current for the batch.
CREATE OR REPLACE VIEW batch_duplicates_now AS
SELECT w.batch, w.clip_id, w.window_id, d.duplicate_of, d.recipe_id, d.mode, d.distance, d.evidence, d.created_at,
       w.window_is_current, w.caption_recipe_id, w.original_caption, w.first_upload_at
FROM window_duplicates d
JOIN current_recipes r ON r.kind = 'dedupe' AND r.recipe_id = d.recipe_id
JOIN batch_windows w
  ON w.batch = r.batch AND w.window_id = d.window_id AND w.first_upload_at = d.first_upload_at AND w.status = 'ok'
JOIN windows o
  ON o.window_id = d.duplicate_of AND o.first_upload_at = w.first_upload_at AND o.clip_id = w.clip_id
 AND o.recipe_id = w.recipe_id AND o.status = 'ok';

CREATE TABLE IF NOT EXISTS batch_duplicates AS FROM batch_duplicates_now WITH NO DATA;

-- The increment: windows with fewer final candidates than their recipe asks for. An error is none. An empty or refused
-- first stage is final, since there is nothing to refine. A window that is collapsed needs none.
-- Sample indices are below 64, so that a number holds a set of them.
CREATE OR REPLACE VIEW missing_captions AS
SELECT m.batch, m.window_id, m.clip_id, m.recipe_id, m.n - m.have AS n_missing
FROM (
  SELECT w.batch, w.window_id, w.clip_id, c.recipe_id, c.n,
         bit_count(coalesce(bit_or(1::UBIGINT << k.sample_index)
           FILTER (c.final_stage = 1 OR k.stage = 2 OR k.status IN ('empty', 'refused')), 0)) AS have
  FROM batch_windows w
  JOIN (
    SELECT recipe_id, (params->>'n')::INTEGER AS n,
           CASE WHEN params->>'stage2_prompt' IS NULL THEN 1 ELSE 2 END AS final_stage
    FROM recipes
    WHERE kind = 'caption'
  ) c ON c.recipe_id = w.caption_recipe_id
  LEFT JOIN caption_candidates k
    ON k.window_id = w.window_id AND k.first_upload_at = w.first_upload_at AND k.recipe_id = c.recipe_id AND k.status <> 'error'
  WHERE w.status = 'ok'
  GROUP BY w.batch, w.window_id, w.clip_id, c.recipe_id, c.n
) m
ANTI JOIN batch_duplicates d ON d.batch = m.batch AND d.window_id = m.window_id
WHERE m.have < m.n;

-- The decision that each batch shows of a window. Of the decisions on one window's candidates a person beats a policy, the
-- current caption recipe beats an older one, the current policy beats an older one, one that compared with this batch's
-- original caption beats one that did not, then the newest. For a window that is collapsed that of the window which stands
-- for it is shown, unless there is one of its own that is current or a person's; of two old ones the newer.
-- decided_window_id is the window whose candidates were judged; duplicate_of is set where that is another one.
CREATE OR REPLACE VIEW batch_decisions AS
SELECT batch, window_id, decision_id, recipe_id, policy_recipe_id, decided_by, created_at, is_current, decided_window_id,
       nullif(decided_window_id, window_id) AS duplicate_of, first_upload_at
FROM (
  SELECT d.batch, d.window_id, d.decided_window_id, d.decision_id, d.recipe_id, d.policy_recipe_id, d.decided_by,
         d.created_at, d.keeps, d.first_upload_at,
         coalesce(d.recipe_id = d.caption_recipe_id, false) AND d.window_is_current AS is_current
  FROM (
    SELECT s.batch, s.window_id, s.decided_window_id, s.window_is_current, s.caption_recipe_id, s.original_caption,
           s.first_upload_at, d.decision_id, d.recipe_id, d.policy_recipe_id, d.reference_sha256, d.decided_by, d.created_at,
           bool_or(d.action = 'keep') AS keeps
    FROM (
      SELECT batch, window_id, window_id AS decided_window_id, window_is_current, caption_recipe_id, original_caption,
             first_upload_at
      FROM batch_windows
      UNION ALL
      SELECT batch, window_id, duplicate_of, window_is_current, caption_recipe_id, original_caption, first_upload_at
      FROM batch_duplicates
    ) s
    JOIN retention_decisions d ON d.window_id = s.decided_window_id AND d.first_upload_at = s.first_upload_at
    GROUP BY s.batch, s.window_id, s.decided_window_id, s.window_is_current, s.caption_recipe_id, s.original_caption,
             s.first_upload_at, d.decision_id, d.recipe_id, d.policy_recipe_id, d.reference_sha256, d.decided_by, d.created_at
    -- Of what people said, the last, unless it takes the one before back: as in standing_decisions, for these windows.
    QUALIFY NOT starts_with(d.decided_by, 'user:')
      OR NOT bool_or(d.action = 'withdraw') AND d.decision_id = arg_max(d.decision_id, (d.created_at, d.decision_id))
           FILTER (starts_with(d.decided_by, 'user:')) OVER (PARTITION BY s.batch, s.window_id, s.first_upload_at, s.decided_window_id)
  ) d
  LEFT JOIN current_recipes p ON p.kind = 'retention' AND p.batch = d.batch
  QUALIFY row_number() OVER (
    PARTITION BY d.batch, d.window_id, d.first_upload_at, d.decided_window_id
    ORDER BY starts_with(d.decided_by, 'user:') DESC,
             coalesce(d.recipe_id = d.caption_recipe_id, false) DESC,
             coalesce(d.policy_recipe_id = p.recipe_id, false) DESC,
             d.reference_sha256 IS NOT DISTINCT FROM sha256(d.original_caption) DESC,
             d.created_at DESC,
             d.decision_id
  ) = 1
)
QUALIFY row_number() OVER (
  PARTITION BY batch, window_id, first_upload_at
  ORDER BY decided_window_id = window_id AND starts_with(decided_by, 'user:') DESC,
           keeps DESC,
           is_current DESC,
           decided_window_id = window_id AND is_current DESC,
           created_at DESC,
           decided_window_id = window_id DESC
) = 1;

-- Windows of a batch for which another window's captions are shown, or will be when there are some.
CREATE OR REPLACE VIEW collapsed_windows AS
SELECT d.*
FROM batch_duplicates d
LEFT JOIN batch_decisions b
  ON b.batch = d.batch AND b.window_id = d.window_id AND b.first_upload_at = d.first_upload_at
WHERE b.window_id IS NULL OR b.duplicate_of IS NOT NULL;

CREATE OR REPLACE VIEW latest_decision AS
SELECT batch, window_id, decision_id, decided_by, is_current, decided_window_id, duplicate_of, first_upload_at
FROM batch_decisions
QUALIFY row_number() OVER (
  PARTITION BY window_id, first_upload_at
  ORDER BY duplicate_of IS NULL AND starts_with(decided_by, 'user:') DESC, is_current DESC, duplicate_of IS NULL DESC,
           starts_with(decided_by, 'user:') DESC, created_at DESC, decision_id
) = 1;

-- The preview that each batch shows of a window. A folder holds one preview of a window, the one that its newest row
-- there says, whatever its format was before; among the folders the batch's own recipe comes first, then the newest.
CREATE OR REPLACE VIEW batch_previews AS
SELECT w.batch, p.*
FROM batch_windows w
JOIN (
  SELECT * FROM previews
  QUALIFY row_number() OVER (
    PARTITION BY first_upload_at, window_id, coalesce(parse_dirpath(uri), recipe_id) ORDER BY created_at DESC, run_id
  ) = 1
) p ON p.window_id = w.window_id AND p.first_upload_at = w.first_upload_at
LEFT JOIN current_recipes r ON r.kind = 'preview' AND r.batch = w.batch
QUALIFY row_number() OVER (
  PARTITION BY w.batch, w.window_id
  ORDER BY coalesce(p.recipe_id = r.recipe_id, false) DESC, p.created_at DESC, p.run_id
) = 1;

-- Why a caption, or a window without one, is not enhanced; NULL where it is. A cut or refused text is no source.
CREATE OR REPLACE MACRO enhancement_skip(window_status, is_decided, caption_status) AS
CASE WHEN window_status <> 'ok' THEN 'window_error'
     WHEN caption_status IS NOT NULL THEN nullif(caption_status, 'ok')
     WHEN is_decided THEN 'no_valid_candidate'
     ELSE 'not_captioned' END;

-- By which recipes each batch is enhanced and checked, and what it shows of drifted captions.
CREATE OR REPLACE VIEW enhancement_rules AS
SELECT e.batch, e.recipe_id AS enhance_recipe_id, d.recipe_id AS drift_recipe_id,
       coalesce(p.params->>'on_drift', 'keep') AS on_drift
FROM current_recipes e
JOIN recipes r ON r.recipe_id = e.recipe_id AND (r.params->>'enabled') IS DISTINCT FROM 'false'
LEFT JOIN current_recipes d ON d.kind = 'drift' AND d.batch = e.batch
LEFT JOIN current_recipes o ON o.kind = 'on_drift' AND o.batch = e.batch
LEFT JOIN recipes p ON p.recipe_id = o.recipe_id
WHERE e.kind = 'enhance';

-- What is not enhanced under the current recipes of each batch, and why. A window that shows another one's caption shows
-- its enhancement too, and is not here.
CREATE OR REPLACE VIEW enhancement_skips AS
SELECT w.batch, w.window_id, k.candidate_id,
       enhancement_skip(w.status, b.decision_id IS NOT NULL, k.status) AS reason_code, w.first_upload_at
FROM batch_windows w
JOIN enhancement_rules r ON r.batch = w.batch
LEFT JOIN batch_decisions b ON b.batch = w.batch AND b.window_id = w.window_id AND b.first_upload_at = w.first_upload_at
LEFT JOIN retention_decisions d
  ON d.decision_id = b.decision_id AND d.window_id = b.decided_window_id AND d.first_upload_at = b.first_upload_at AND d.action = 'keep'
LEFT JOIN caption_candidates k ON k.candidate_id = d.candidate_id AND k.first_upload_at = d.first_upload_at
WHERE b.duplicate_of IS NULL AND enhancement_skip(w.status, b.decision_id IS NOT NULL, k.status) IS NOT NULL;

-- The enhancement of each caption under each set of rules in use, with its newest drift check, and what is shown:
-- enhanced_status is ok or truncated (the text), flagged (the text, which drifted), fallback or unchecked (the caption in
-- its place), or empty, refused or error (nothing).
CREATE OR REPLACE VIEW shown_enhancements AS
SELECT r.enhance_recipe_id, r.drift_recipe_id, r.on_drift, e.candidate_id, e.first_upload_at, e.enhanced_id, e.text,
       c.status AS drift,
       CASE WHEN e.status NOT IN ('ok', 'truncated') THEN e.status
            WHEN r.on_drift = 'fallback' AND c.status IS NULL THEN 'unchecked'
            WHEN r.on_drift = 'fallback' AND c.status = 'drifted' THEN 'fallback'
            WHEN r.on_drift = 'flag' AND c.status = 'drifted' THEN 'flagged'
            ELSE e.status END AS enhanced_status,
       CASE WHEN e.status NOT IN ('ok', 'truncated') THEN e.error ELSE c.reason END AS reason
FROM (SELECT DISTINCT enhance_recipe_id, drift_recipe_id, on_drift FROM enhancement_rules) r
JOIN (
  SELECT * FROM enhanced_captions
  QUALIFY row_number() OVER (PARTITION BY first_upload_at, recipe_id, candidate_id ORDER BY status = 'error', attempt DESC) = 1
) e ON e.recipe_id = r.enhance_recipe_id
LEFT JOIN (
  SELECT * FROM drift_checks
  QUALIFY row_number() OVER (PARTITION BY first_upload_at, enhanced_id, recipe_id ORDER BY created_at DESC, check_id) = 1
) c ON c.enhanced_id = e.enhanced_id AND c.first_upload_at = e.first_upload_at AND c.recipe_id = r.drift_recipe_id;

-- The enhanced caption as it is shown: the text, or the caption where that stands in its place.
CREATE OR REPLACE MACRO enhanced_caption(enhanced_status, enhanced_text, caption) AS
CASE WHEN enhanced_status IN ('ok', 'truncated', 'flagged') THEN enhanced_text
     WHEN enhanced_status IN ('fallback', 'unchecked') THEN caption END;

-- What a consumer reads: the kept captions. is_current is false while an older recipe's caption is served; duplicate_of
-- is the window whose caption it is, where the window itself is collapsed.
CREATE OR REPLACE VIEW captions AS
SELECT w.clip_id, w.window_id, w.window_index, w.start_frame, w.end_frame, w.start_s, w.end_s,
       k.candidate_id, k.text, k.status, k.stage, k.seed, k.recipe_id,
       r.model_id, r.model_revision, r.engine, r.engine_version, r.prompt_sha256,
       d.decision_id, d.rank, d.score, d.reason_code, d.evidence, d.policy, d.policy_recipe_id, d.decided_by,
       l.is_current, l.duplicate_of, k.run_id, k.created_at,
       enhanced_caption(e.enhanced_status, e.text, k.text) AS enhanced_caption, e.enhanced_status, e.drift
FROM latest_decision l
JOIN retention_decisions d
  ON d.decision_id = l.decision_id AND d.window_id = l.decided_window_id AND d.first_upload_at = l.first_upload_at AND d.action = 'keep'
JOIN caption_candidates k ON k.candidate_id = d.candidate_id AND k.first_upload_at = d.first_upload_at
JOIN recipes r ON r.recipe_id = k.recipe_id
JOIN windows w ON w.window_id = l.window_id AND w.first_upload_at = l.first_upload_at
LEFT JOIN enhancement_rules u ON u.batch = l.batch
LEFT JOIN shown_enhancements e
  ON e.candidate_id = k.candidate_id AND e.first_upload_at = k.first_upload_at AND e.enhance_recipe_id = u.enhance_recipe_id
 AND e.on_drift = u.on_drift AND e.drift_recipe_id IS NOT DISTINCT FROM u.drift_recipe_id;
