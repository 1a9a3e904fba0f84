-- The recipe that is current for each stage of a batch, if its own row is there too.
SELECT kind, recipe_id
FROM current_recipes
JOIN recipes USING (recipe_id, kind)
WHERE batch = $batch;
