-- The files of a batch as they are recorded now, every column.
SELECT * FROM live_uploads WHERE batch = $batch ORDER BY path;
