-- The recipe that is current for a stage of a batch, if its own row is there too.
SELECT recipe_id
FROM current_recipes
JOIN recipes USING (recipe_id, kind)
WHERE kind = $kind AND batch = $batch;
