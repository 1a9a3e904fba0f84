-- How many candidates of a batch each gate dropped or put behind, in the decisions that are shown.
SELECT d.reason_code, count(*) AS n
FROM batch_decisions b
JOIN retention_decisions d ON d.decision_id = b.decision_id AND d.window_id = b.window_id
WHERE b.batch = $batch AND b.duplicate_of IS NULL AND starts_with(d.reason_code, 'GATE_')
GROUP BY d.reason_code;
