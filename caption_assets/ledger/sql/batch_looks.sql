-- What the windows of a batch look like, clip by clip, in order.
SELECT window_id, clip_id, frame_hashes
FROM batch_windows
WHERE batch = $batch AND status = 'ok'
ORDER BY clip_id, start_frame;
