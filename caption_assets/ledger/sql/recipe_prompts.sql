-- What the models of caption recipes were asked: the prompt, and that of the second stage.
SELECT r.recipe_id, r.engine, p.text AS prompt, r.params->>'stage2_prompt' AS stage2_prompt
FROM recipes r
LEFT JOIN prompts p ON p.prompt_sha256 = r.prompt_sha256
WHERE r.recipe_id IN (SELECT unnest($recipes));
