-- Windows whose newest preview, the file that is there, was made by a recipe.
SELECT window_id
FROM (SELECT * FROM previews QUALIFY row_number() OVER (PARTITION BY window_id ORDER BY created_at DESC, run_id) = 1)
WHERE recipe_id = $recipe AND status = 'ok';
