-- Windows that have a preview made by a recipe: the newest row of a window in a folder says what lies there.
SELECT DISTINCT window_id
FROM (
  SELECT * FROM previews WHERE uri IS NOT NULL
  QUALIFY row_number() OVER (PARTITION BY window_id, parse_dirpath(uri) ORDER BY created_at DESC, run_id) = 1
)
WHERE recipe_id = $recipe AND status = 'ok';
