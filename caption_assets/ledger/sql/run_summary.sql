-- What one run did to one batch, asset by asset.
SELECT asset_key AS asset, status, n_expected AS expected, n_ok AS "new", n_reused AS reused, n_error AS failed, error,
       round(date_diff('millisecond', started_at, ended_at) / 1000.0, 2) AS seconds
FROM runs
WHERE run_id = $run AND batch = $batch
ORDER BY started_at, asset_key;
