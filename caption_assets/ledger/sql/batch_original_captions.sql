-- Windows of a batch whose clip came with a caption.
SELECT w.window_id, w.original_caption
FROM batch_windows w
WHERE w.batch = $batch AND w.original_caption IS NOT NULL AND w.status = 'ok'
ORDER BY w.window_id;
