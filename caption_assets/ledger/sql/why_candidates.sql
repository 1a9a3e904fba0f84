-- Every candidate of a window, and of the window that stands for it where it is collapsed, with the verdict of the decision
-- in force ($decision on $decided_window, NULL where there is none), the winner first.
SELECT k.candidate_id, k.window_id, coalesce(d.action, 'not judged') AS action, d.rank, d.reason_code, d.score, d.evidence,
       d.policy, d.decided_by, k.text, k.status, k.error, k.origin, k.stage, k.sample_index, k.attempt, k.seed,
       k.finish_reason, k.prompt_tokens, k.output_tokens, r.model_id, r.model_revision, r.engine, r.engine_version,
       p.name AS prompt_name, r.prompt_sha256, p.text AS prompt, k.recipe_id, k.run_id, k.created_at
FROM caption_candidates k
JOIN recipes r ON r.recipe_id = k.recipe_id
LEFT JOIN prompts p ON p.prompt_sha256 = r.prompt_sha256
LEFT JOIN (
  SELECT *
  FROM retention_decisions
  WHERE decision_id = $decision AND window_id = $decided_window AND first_upload_at = $first_upload_at
) d ON d.candidate_id = k.candidate_id AND d.window_id = k.window_id
WHERE k.first_upload_at = $first_upload_at AND k.window_id IN ($window, $decided_window)
ORDER BY d.action = 'keep' DESC NULLS LAST, d.rank NULLS LAST, k.created_at, k.sample_index;
