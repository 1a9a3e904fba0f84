-- The decision in force on a window, and the window whose candidates it is about.
SELECT decision_id, decided_window_id
FROM latest_decision
WHERE window_id = $window AND first_upload_at = $first_upload_at;
