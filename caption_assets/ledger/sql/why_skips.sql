-- Why a window, or a caption of it, is not enhanced, per batch.
SELECT batch, window_id, candidate_id, reason_code
FROM enhancement_skips
WHERE window_id = $window AND first_upload_at = $first_upload_at
ORDER BY ALL;
