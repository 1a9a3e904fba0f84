-- Which of some windows a dedupe recipe has collapsed already.
SELECT window_id FROM window_duplicates WHERE recipe_id = $recipe AND window_id IN (SELECT unnest($windows));
