-- name: news
-- What followers have not seen yet: for each place n, a run and the last seq seen, whether the run has ended (or is
-- gone), and the next events.  One statement, so one snapshot: of an ended run nothing more can come than it shows.
-- Reads only, locks nothing.  A run without news costs the look at its row.
SELECT f.n, r.id IS NULL OR r.finished_at IS NOT NULL AS ended, e.seq, e.type, e.step, e.at, e.data
  FROM unnest(%(runs)s::uuid[], %(after)s::int[]) WITH ORDINALITY AS f(run_id, after, n)
  LEFT JOIN runs_run r ON r.id = f.run_id
  LEFT JOIN LATERAL (
       SELECT seq, type, step, at, data FROM runs_event
        WHERE run_id = r.id AND seq > f.after AND r.event_seq > f.after
        ORDER BY seq
        LIMIT %(most)s
  ) e ON true
 ORDER BY f.n, e.seq;
