-- Batches that have registered files.
SELECT DISTINCT batch FROM uploads ORDER BY batch;
