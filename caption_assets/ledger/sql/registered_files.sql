-- What is recorded of every file of the batches named.
SELECT batch, path, bytes, mtime_ns, sidecar_mtime_ns, sha256, status, error FROM live_uploads WHERE batch IN (SELECT unnest($batches));
