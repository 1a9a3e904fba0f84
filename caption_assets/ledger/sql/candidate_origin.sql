-- Everything it takes to make a candidate again.
SELECT k.*, r.params, r.engine, r.engine_version, r.model_id, r.model_revision, p.text AS prompt,
       w.clip_id, w.recipe_id AS window_recipe_id, wr.params AS window_params,
       parent.text AS parent_text,
       (SELECT arg_min(u.batch, u.batch) FROM live_uploads u
        WHERE u.status = 'ok'
          AND u.clip_id = coalesce((SELECT any_value(c.source_clip_id) FROM clips c WHERE c.clip_id = w.clip_id), w.clip_id)
       ) AS batch
FROM caption_candidates k
JOIN recipes r ON r.recipe_id = k.recipe_id
JOIN windows w ON w.window_id = k.window_id AND w.first_upload_at = k.first_upload_at
JOIN recipes wr ON wr.recipe_id = w.recipe_id
LEFT JOIN prompts p ON p.prompt_sha256 = r.prompt_sha256
LEFT JOIN caption_candidates parent ON parent.candidate_id = k.parent_candidate_id AND parent.first_upload_at = k.first_upload_at
WHERE k.candidate_id = $candidate;
