-- The clips of a batch with a caption recipe of their own, where the recipe's own row is there too.
SELECT clip_id, recipe_id
FROM current_clip_recipes
JOIN recipes USING (recipe_id)
WHERE batch = $batch;
