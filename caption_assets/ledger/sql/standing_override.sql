-- A person's decision that stands on a window, verdict by verdict.
SELECT decision_id, candidate_id, recipe_id, action, decided_by, evidence, created_at
FROM standing_decisions
WHERE window_id = $window AND decided_by >= 'user:' AND decided_by < 'user;'
ORDER BY rank NULLS LAST, candidate_id;
