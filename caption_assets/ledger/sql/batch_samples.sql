-- The samples that a batch was imported with, in their order; none where the batch is taken down.
SELECT sample_index, text, videos, columns
FROM samples
WHERE batch = $batch
  AND NOT EXISTS (SELECT 1 FROM standing_takedowns t WHERE t.object_kind = 'batch' AND t.object_id = $batch)
ORDER BY sample_index;
