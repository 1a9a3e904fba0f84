-- What is odd about files of a batch that are used all the same.
SELECT path, error FROM live_uploads WHERE batch = $batch AND status = 'ok' AND error IS NOT NULL ORDER BY path;
