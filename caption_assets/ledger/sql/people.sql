-- What people said, as far as it stands.

-- Decisions, without those of people that were withdrawn or that a person decided again after. People are found by the
-- range of names `user:` to `user;`, so that the database skips every block of rows that holds none.
CREATE OR REPLACE VIEW standing_decisions AS
SELECT *
FROM retention_decisions
WHERE decided_by < 'user:' OR decided_by >= 'user;'
UNION ALL
SELECT d.*
FROM retention_decisions d
JOIN (
  SELECT window_id, arg_max(decision_id, (created_at, decision_id)) AS decision_id,
         arg_max(reason_code, (created_at, decision_id)) AS reason_code
  FROM retention_decisions
  WHERE decided_by >= 'user:' AND decided_by < 'user;'
  GROUP BY window_id
) newest ON newest.decision_id = d.decision_id AND newest.reason_code <> 'OVERRIDE_WITHDRAWN'
WHERE d.decided_by >= 'user:' AND d.decided_by < 'user;';

-- Clips and batches that are hidden: the newest row of each says whether it still is.
CREATE OR REPLACE VIEW standing_takedowns AS
SELECT *
FROM (
  SELECT * FROM tombstones
  QUALIFY row_number() OVER (PARTITION BY object_kind, object_id ORDER BY created_at DESC, run_id DESC) = 1
)
WHERE reason_code <> 'WITHDRAWN';
