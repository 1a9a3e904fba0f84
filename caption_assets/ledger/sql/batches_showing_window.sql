-- The batches whose tables show a window, or show its captions for a window that is collapsed into it.
SELECT DISTINCT batch
FROM (
  SELECT batch FROM batch_windows WHERE window_id = $window
  UNION ALL
  SELECT batch FROM batch_duplicates WHERE duplicate_of = $window
)
ORDER BY batch;
