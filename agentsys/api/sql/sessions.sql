-- name: whose_session
-- The user of a session, their role in one workspace (by id or by slug, the other is NULL), and whether
-- the session was ended.  Reads only.  In SQL because every request asks it: as a queryset its making
-- took a third of a small request's time.
SELECT u.*, w.id AS workspace_here, m.role AS role_here,
       EXISTS (
           SELECT FROM token_blacklist_outstandingtoken o
             JOIN token_blacklist_blacklistedtoken b ON b.token_id = o.id
            WHERE o.jti = %(family)s
       ) AS session_over
  FROM accounts_user u
  LEFT JOIN accounts_workspace w ON w.id = %(workspace_id)s::uuid OR w.slug = %(slug)s::text
  LEFT JOIN accounts_membership m ON m.workspace_id = w.id AND m.user_id = u.id
 WHERE u.id = %(user_id)s::bigint;

-- name: whose_sessions
-- As whose_session for many at once: n is the place in the arrays; who is not there has no row.  Reads only.
SELECT asked.n, u.*, w.id AS workspace_here, m.role AS role_here,
       EXISTS (
           SELECT FROM token_blacklist_outstandingtoken o
             JOIN token_blacklist_blacklistedtoken b ON b.token_id = o.id
            WHERE o.jti = asked.family
       ) AS session_over
  FROM unnest(%(user_ids)s::bigint[], %(workspace_ids)s::uuid[], %(slugs)s::text[], %(families)s::text[])
       WITH ORDINALITY AS asked(user_id, workspace_id, slug, family, n)
  JOIN accounts_user u ON u.id = asked.user_id
  LEFT JOIN accounts_workspace w ON w.id = asked.workspace_id OR w.slug = asked.slug
  LEFT JOIN accounts_membership m ON m.workspace_id = w.id AND m.user_id = u.id;
