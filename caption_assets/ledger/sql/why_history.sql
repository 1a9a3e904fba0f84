-- Every decision on a window, the oldest first: what a policy or a person kept, when, and a person's note.
SELECT decision_id, decided_by, policy, created_at, any_value(evidence->>'note') AS note,
       bool_or(action = 'withdraw') AS is_withdrawal,
       coalesce(list(candidate_id ORDER BY rank, candidate_id) FILTER (action = 'keep'), []) AS kept
FROM retention_decisions
WHERE window_id = $window AND first_upload_at = $first_upload_at
GROUP BY decision_id, decided_by, policy, created_at
ORDER BY created_at, decision_id;
