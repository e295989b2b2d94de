-- Views over recorded runs, for DuckDB 2.0 or newer; docs/sql.md of dropdiag has their columns. Names with a leading
-- underscore are steps on the way. Each query reads the runs' files as they are at that time; a folder that is called
-- key=value is no column of theirs.

CREATE OR REPLACE VIEW bins AS FROM read_parquet(@bins@, hive_partitioning = false);
CREATE OR REPLACE VIEW sites AS FROM read_parquet(@sites@, hive_partitioning = false);
CREATE OR REPLACE VIEW activations AS FROM read_parquet(@activations@, hive_partitioning = false);
CREATE OR REPLACE VIEW saturation AS FROM read_parquet(@saturation@, hive_partitioning = false);

-- Which rows of a run count was known when this was written: a session or a rank that came later is told, and not read.
CREATE OR REPLACE VIEW _runs AS
WITH told AS (
    SELECT regexp_extract(filename, '(?s)^(.*?)/(?:rank-[0-9]+/rank|run)[.]json$', 1) AS path,
           suffix(filename, '/run.json') AS whole,
           CASE WHEN json_valid(content) THEN
               json_transform(content, '{"state": "VARCHAR", "steps": "BIGINT", "sessions": ["JSON"]}') END AS meta,
           -- the last line is a digest of all before it, which it takes 82 characters to write
           regexp_extract(content, ',\n "sha256": "([0-9a-f]{64})"\n}\n$', 1)
               = sha256(left(content, greatest(length(content) - 82, 0))) AS sealed,
           sha256(content) AS digest
    -- what is no text, or no JSON, leaves its own run out and no other
    FROM (SELECT filename, coalesce(TRY(decode(content)), '') AS content FROM read_blob(@metas@))
), now AS (
    SELECT path, any_value(meta.state) FILTER (whole) AS state, any_value(meta.steps) FILTER (whole) AS steps,
           any_value(len(meta.sessions)) FILTER (whole) AS sessions, count(*) AS metas,
           any_value(sealed) FILTER (whole) AS sealed, any_value(digest) FILTER (whole) AS digest,
           bool_and(meta IS NOT NULL) AS readable
    FROM told GROUP BY path
)
SELECT known.run, condition, seed, path, coalesce(now.state, 'gone') AS state, now.steps, ranks, left_out,
       NOT now.readable OR known.sessions IS DISTINCT FROM now.sessions OR known.metas IS DISTINCT FROM now.metas
           OR (known.sealed AND NOT now.sealed AND known.edited IS DISTINCT FROM now.digest) AS stale
FROM read_parquet(@runs@, hive_partitioning = false) AS known LEFT JOIN now USING (path);

CREATE OR REPLACE VIEW runs AS
SELECT * EXCLUDE (left_out, stale),
       CASE WHEN stale THEN
                'it is gone, was resumed, got ranks, or was edited or damaged since these views were written: '
                || 'write them anew'
            ELSE left_out END AS left_out
FROM _runs;

-- A joined segment stands for the parts that a kill left beside it; a session says up to which step its rows count.
CREATE OR REPLACE VIEW _segments AS
WITH files AS (
    SELECT file, regexp_extract(
        file, '(?s)^(.*)/rank-(0|[1-9][0-9]*)/([a-z]+)-([0-9]{6,})(?:-([0-9]{6,}))?'
            || '(?:[.]([0-9a-f]{16})[.]([0-9a-f]{32}))?[.]parquet$',
        ['path', 'rank', 'name', 'begin', 'end', 'session', 'digest']
    ) AS told
    FROM glob(@segments@)
), numbered AS (
    SELECT file, told.path AS path, told.rank::INTEGER AS rank, told.name AS name, told.begin::BIGINT AS begin_at,
           coalesce(nullif(told.end, ''), told.begin)::BIGINT AS end_at,
           -- without one, or where its digits are zeros, the number tells which session wrote a segment
           CASE WHEN told.session <> '0000000000000000' THEN told.session ELSE '' END AS session, told.digest AS digest
    FROM files WHERE told.name <> ''
)
SELECT file, digest, runs.run, condition, seed, runs.ranks, left_out, rank, begin_at, last_step
FROM numbered AS one
JOIN _runs AS runs USING (path)
JOIN read_parquet(@spans@, hive_partitioning = false) AS span USING (run, rank)
WHERE NOT stale AND CASE
    WHEN one.session <> '' THEN span.session = one.session
    ELSE begin_at >= first_segment AND (next_segment IS NULL OR begin_at < next_segment) END
  AND NOT EXISTS (
    FROM numbered AS joined
    WHERE joined.path = one.path AND joined.rank = one.rank AND joined.name = one.name
      AND joined.session = one.session
      AND ((joined.begin_at <= one.begin_at AND one.end_at <= joined.end_at
            AND joined.end_at - joined.begin_at > one.end_at - one.begin_at)
           -- a copy under another number
           OR (joined.digest <> '' AND joined.digest = one.digest AND joined.begin_at < one.begin_at))
  );

-- A segment has the first digits of its SHA-256 in its name. One whose bytes are others stops the query, by its name.
CREATE OR REPLACE MACRO _whole(file, digest, content) AS CASE
    WHEN digest = '' OR left(sha256(content), 32) = digest THEN true
    ELSE error(file || ' is damaged: its bytes are not those that were written. Write these views anew to leave it out')
        ::BOOLEAN END;

CREATE OR REPLACE VIEW _scalars AS
SELECT run, condition, seed, ranks, left_out, rank, begin_at, file_row_number AS row, step, phase, layer, call, quantity,
       value, "count"
FROM read_parquet(
    @scalars@, filename = true, hive_partitioning = false, file_row_number = true, union_by_name = true, allow_empty = true
) AS found
JOIN _segments ON filename = file
JOIN (SELECT filename AS file, content FROM read_blob(@scalars@)) AS bytes USING (file)
WHERE _whole(file, digest, content) AND (last_step IS NULL OR step <= last_step);

CREATE OR REPLACE VIEW _histograms AS
SELECT run, condition, seed, ranks, left_out, rank, step, phase, layer, call, quantity, n, bins, counts
FROM read_parquet(
    @histograms@, filename = true, hive_partitioning = false, union_by_name = true, allow_empty = true
) AS found
JOIN _segments ON filename = file
JOIN (SELECT filename AS file, content FROM read_blob(@histograms@)) AS bytes USING (file)
WHERE _whole(file, digest, content) AND (last_step IS NULL OR step <= last_step);

-- What each rank recorded by itself.
CREATE OR REPLACE VIEW rank_scalars AS
SELECT run, condition, seed, rank, step, phase, layer, call, quantity, value, "count" FROM _scalars;
CREATE OR REPLACE VIEW rank_histograms AS
SELECT run, condition, seed, rank, step, phase, layer, call, quantity, n, bins, counts FROM _histograms;

-- Evaluations in which all ranks had the same data: those of the first rank count.
CREATE OR REPLACE VIEW _repeated AS
SELECT run, step, phase, arg_min(rank, place) AS only_rank
FROM _scalars JOIN read_parquet(@ranks@, hive_partitioning = false) AS order_of USING (run, rank)
WHERE quantity = 'evaluation_digest' AND _scalars.ranks > 1
GROUP BY run, step, phase HAVING count(DISTINCT rank) > 1 AND count(DISTINCT value) = 1;

CREATE OR REPLACE VIEW scalars AS
WITH placed AS (
    SELECT _scalars.*, place, coalesce(merge, 'mean') AS merge, coalesce("count", 1) <> 0 AS came,
           -- weights that several ranks hold copies of count once
           layer IS NOT NULL AND regexp_matches(quantity, '^(weight|raw_weight_grad)(_|$)')
               AND NOT list_contains(parts, layer) AS copied,
           row_number() OVER (
               PARTITION BY run, rank, step, phase, layer, call, quantity ORDER BY begin_at, row
           ) AS again
    FROM _scalars JOIN read_parquet(@ranks@, hive_partitioning = false) AS order_of USING (run, rank)
    LEFT JOIN read_parquet(@merges@, hive_partitioning = false) AS merges USING (run, quantity)
    WHERE _scalars.ranks > 1 AND left_out IS NULL AND quantity <> 'evaluation_digest'
), kept AS (
    SELECT placed.* FROM placed LEFT JOIN _repeated USING (run, step, phase)
    WHERE layer IS NULL OR only_rank IS NULL OR rank = only_rank
    QUALIFY NOT copied OR row_number() OVER (
        PARTITION BY run, step, phase, layer, call, quantity, again, copied, value, "count" ORDER BY place
    ) = 1
)
SELECT run, condition, seed, step, phase, layer, call, quantity, value, "count"
FROM _scalars WHERE ranks = 1 AND left_out IS NULL
UNION ALL
SELECT run, condition, seed, step, phase, layer, call, quantity,
       CASE WHEN NOT bool_or(came) THEN first(value ORDER BY place) FILTER (value IS NOT NULL)
            WHEN bool_or(came AND value IS NULL) THEN NULL
            WHEN merge = 'state' AND count_if(came) > 1 THEN NULL
            WHEN merge = 'sum' THEN sum(value) FILTER (came)
            WHEN merge IN ('minimum', 'maximum') AND bool_or(came AND isnan(value)) THEN 'NaN'::DOUBLE
            WHEN merge = 'minimum' THEN min(value) FILTER (came)
            WHEN merge = 'maximum' THEN max(value) FILTER (came)
            WHEN min(value) FILTER (came) = max(value) FILTER (came) THEN min(value) FILTER (came)
            -- how much those weigh that have no count, nobody can tell
            WHEN count("count") FILTER (came) NOT IN (0, count_if(came)) THEN NULL
            ELSE sum(value * coalesce("count", 1)) FILTER (came) / sum(coalesce("count", 1)) FILTER (came)
       END AS value,
       CASE WHEN bool_and("count" IS NOT NULL) THEN sum("count") END AS "count"
FROM kept
GROUP BY run, condition, seed, step, phase, layer, call, quantity, merge, again;

CREATE OR REPLACE VIEW histograms AS
WITH kept AS (
    SELECT _histograms.*
    FROM _histograms JOIN read_parquet(@ranks@, hive_partitioning = false) AS order_of USING (run, rank)
    LEFT JOIN _repeated USING (run, step, phase)
    WHERE _histograms.ranks > 1 AND left_out IS NULL AND (only_rank IS NULL OR rank = only_rank)
    QUALIFY NOT regexp_matches(quantity, '^(weight|raw_weight_grad)(_|$)') OR list_contains(parts, layer)
         OR row_number() OVER (
                PARTITION BY run, step, phase, layer, call, quantity, list_contains(parts, layer), bins, counts
                ORDER BY place
            ) = 1
), single AS (
    -- pairs of nodes over all samples follow from covariances: their histograms do not add up
    FROM kept QUALIFY quantity <> 'node_correlation'
        OR count(*) OVER (PARTITION BY run, step, phase, layer, call, quantity) = 1
), held AS (
    SELECT run, condition, seed, step, phase, layer, call, quantity, unnest(bins) AS bin, unnest(counts) AS held
    FROM single
), added AS (
    SELECT run, condition, seed, step, phase, layer, call, quantity, bin, sum(held)::BIGINT AS held
    FROM held GROUP BY ALL
), every AS (
    SELECT run, condition, seed, step, phase, layer, call, quantity, n, bins, counts
    FROM _histograms WHERE ranks = 1 AND left_out IS NULL
    UNION ALL
    SELECT run, condition, seed, step, phase, layer, call, quantity, sum(held)::BIGINT,
           list(bin ORDER BY bin), list(held ORDER BY bin)
    FROM added GROUP BY run, condition, seed, step, phase, layer, call, quantity
)
SELECT run, condition, seed, step, phase, layer, call, quantity, n,
       -- the upper 14 bits of a magnitude: from 0x3FC0 on they are of infinities and NaN
       coalesce(list_sum(list_transform(
           list_zip(bins, counts), lambda pair: CASE WHEN pair[1] & 16383 < 16320 THEN pair[2] ELSE 0 END
       )), 0)::BIGINT AS n_finite,
       bins, counts
FROM every;

CREATE OR REPLACE VIEW histogram_bins AS
WITH held AS (
    SELECT run, condition, seed, step, phase, layer, call, quantity, n, n_finite,
           unnest(bins) AS bin, unnest(counts) AS "count"
    FROM histograms
)
SELECT held.*, kind, low, high, centre, width FROM held JOIN bins USING (bin);

CREATE OR REPLACE VIEW densities AS
SELECT *, CASE WHEN kind = 'finite' THEN "count" / n_finite / width END AS density
FROM histogram_bins WHERE kind IN ('finite', 'zero');

CREATE OR REPLACE VIEW saturation_shares AS
WITH found AS (
    SELECT held.*, coalesce(own.function, other.function) AS function,
           coalesce(own.activation, other.activation) AS activation
    FROM histograms AS held
    LEFT JOIN activations AS own
           ON own.run = held.run AND own.layer = held.layer AND own.call = held.call
    LEFT JOIN activations AS other
           ON other.run = held.run AND other.layer = held.layer AND other.call IS NULL
    WHERE quantity = 'net_value'
), held AS (
    SELECT * EXCLUDE (bins, counts, quantity, n), n - n_finite AS dropped, unnest(bins) AS bin, unnest(counts) AS held
    FROM found
)
SELECT run, condition, seed, step, phase, layer, call, activation, any_value(eps) AS eps,
       sum(held * left_part) / nullif(n_finite, 0) AS left_share,
       sum(held * right_part) / nullif(n_finite, 0) AS right_share,
       (sum(held * left_part) + sum(held * right_part)) / nullif(n_finite, 0) AS share,
       n_finite, dropped
FROM held LEFT JOIN (SELECT * EXCLUDE (activation) FROM saturation) AS area USING (function, bin)
GROUP BY run, condition, seed, step, phase, layer, call, activation, n_finite, dropped;
