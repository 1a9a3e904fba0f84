-- The recipe that is current for each stage of a batch, NULL where its own row is not there, and since when.
SELECT c.kind, r.recipe_id, c.valid_from
FROM (
  SELECT kind, arg_max(recipe_id, valid_from) AS recipe_id, max(valid_from) AS valid_from
  FROM active_recipes
  WHERE batch = $batch
  GROUP BY kind
) c
LEFT JOIN recipes r ON r.recipe_id = c.recipe_id AND r.kind = c.kind;
