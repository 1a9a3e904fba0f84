-- The caption recipe of the decision in force on a window.
SELECT d.recipe_id
FROM latest_decision l
JOIN retention_decisions d ON d.decision_id = l.decision_id
WHERE l.window_id = $window AND l.duplicate_of IS NULL
LIMIT 1;
