-- The enhancements of a batch's windows under one recipe, each with its source and the other candidates of the window that
-- bear it out: those of the same caption recipe and those that came with the video, kept or not. The set only grows.
SELECT e.enhanced_id, e.candidate_id, e.window_id, e.text AS enhanced, k.text AS source,
       list(o.candidate_id ORDER BY o.candidate_id) FILTER (o.candidate_id IS NOT NULL) AS other_ids,
       list(o.text ORDER BY o.candidate_id) FILTER (o.candidate_id IS NOT NULL) AS others
FROM (
  SELECT enhanced_id, candidate_id, window_id, status, text
  FROM enhanced_captions
  WHERE recipe_id = $enhance AND window_id IN (SELECT window_id FROM batch_windows WHERE batch = $batch)
  QUALIFY row_number() OVER (PARTITION BY candidate_id ORDER BY status = 'error', attempt DESC) = 1
) e
JOIN caption_candidates k ON k.candidate_id = e.candidate_id
LEFT JOIN caption_candidates o
  ON o.window_id = k.window_id AND o.candidate_id <> k.candidate_id AND o.status IN ('ok', 'truncated')
 AND (o.recipe_id = k.recipe_id OR o.origin = 'original' OR k.origin = 'original')
WHERE e.status IN ('ok', 'truncated')
GROUP BY e.enhanced_id, e.candidate_id, e.window_id, e.text, k.text
ORDER BY e.enhanced_id;
