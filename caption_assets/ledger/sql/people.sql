-- What people said, as far as it stands.

-- Decisions, without those of people that were withdrawn or that a person decided again after.
CREATE OR REPLACE VIEW standing_decisions AS
SELECT *
FROM retention_decisions
WHERE NOT starts_with(decided_by, 'user:')
   OR decision_id IN (
     SELECT decision_id
     FROM (
       SELECT window_id, arg_max(decision_id, (created_at, decision_id)) AS decision_id,
              arg_max(reason_code, (created_at, decision_id)) AS reason_code
       FROM retention_decisions
       WHERE starts_with(decided_by, 'user:')
       GROUP BY window_id
     )
     WHERE reason_code <> 'OVERRIDE_WITHDRAWN'
   );

-- Clips and batches that are hidden: the newest row of each says whether it still is.
CREATE OR REPLACE VIEW standing_takedowns AS
SELECT *
FROM (
  SELECT * FROM tombstones
  QUALIFY row_number() OVER (PARTITION BY object_kind, object_id ORDER BY created_at DESC, run_id DESC) = 1
)
WHERE reason_code <> 'WITHDRAWN';
