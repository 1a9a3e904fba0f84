-- Candidates of the current recipe whose request had other tokens than were reckoned before it was sent. Engines that
-- cannot reckon, or that do not report, have nothing to compare.
SELECT w.name AS path, w.window_index, k.candidate_id, k.expected_prompt_tokens, k.prompt_tokens
FROM batch_windows w
JOIN caption_candidates k ON k.window_id = w.window_id AND k.recipe_id = w.caption_recipe_id
WHERE w.batch = $batch AND k.expected_prompt_tokens <> k.prompt_tokens
ORDER BY w.name, w.window_index, k.sample_index, k.attempt;
