-- The windows of a clip and of its parts, whatever their recipe, with every preview that was made of them.
SELECT DISTINCT w.window_id, p.uri, p.poster_uri
FROM windows w
LEFT JOIN previews p ON p.window_id = w.window_id
WHERE w.clip_id = $clip OR w.clip_id IN (SELECT clip_id FROM clips WHERE source_clip_id = $clip)
ORDER BY w.window_id, p.uri;
