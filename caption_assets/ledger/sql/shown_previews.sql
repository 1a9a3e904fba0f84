-- Windows that have a preview file made by a recipe: the newest row with the file's path says who made it.
SELECT DISTINCT window_id
FROM (
  SELECT * FROM previews WHERE uri IS NOT NULL
  QUALIFY row_number() OVER (PARTITION BY uri ORDER BY created_at DESC, run_id) = 1
)
WHERE recipe_id = $recipe AND status = 'ok';
