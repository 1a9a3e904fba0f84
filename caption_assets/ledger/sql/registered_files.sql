-- What is recorded of every file of every batch, also where it is taken down.
SELECT batch, path, bytes, mtime_ns, sidecar_mtime_ns, columns_mtime_ns, sha256, status, error
FROM uploads
QUALIFY row_number() OVER (PARTITION BY batch, path ORDER BY created_at DESC, run_id) = 1;
