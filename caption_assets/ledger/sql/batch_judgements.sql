-- What a judge answered about the candidates of a batch's windows: the newest attempt of each pair.
SELECT j.*
FROM judgements j
WHERE j.recipe_id = $recipe
  AND j.window_id IN (SELECT window_id FROM batch_windows WHERE batch = $batch)
QUALIFY row_number() OVER (
  PARTITION BY j.first_candidate_id, j.second_candidate_id ORDER BY j.status = 'error', j.attempt DESC
) = 1
ORDER BY j.window_id, j.first_candidate_id, j.second_candidate_id;
