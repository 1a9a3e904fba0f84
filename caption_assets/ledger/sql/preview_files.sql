-- The files of every preview that was made of a window of a batch, whether it is shown or not.
SELECT DISTINCT p.uri
FROM batch_windows w
JOIN previews p ON p.window_id = w.window_id AND p.first_upload_at = w.first_upload_at
WHERE w.batch = $batch AND p.uri IS NOT NULL;
