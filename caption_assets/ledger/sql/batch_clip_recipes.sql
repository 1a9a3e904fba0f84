-- The clips of a batch with a caption recipe of their own, and the recipe, if its own row is there too.
SELECT o.clip_id, r.recipe_id
FROM current_clip_recipes o
LEFT JOIN recipes r ON r.recipe_id = o.recipe_id
WHERE o.batch = $batch AND o.recipe_id IS NOT NULL;
