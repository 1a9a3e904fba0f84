-- Every candidate of a window, of whatever recipe, the oldest first.
SELECT candidate_id, recipe_id, status, text
FROM caption_candidates
WHERE window_id = $window
ORDER BY created_at, sample_index, attempt, candidate_id;
