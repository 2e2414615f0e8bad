-- name: set_role_defaults
-- What every connection of this role to this database begins with.  The server gives it, so it reaches workers
-- behind pgbouncer too, where a session's SET or a start-up option would not; new connections only.  A role may
-- set its own.  What is set for this role and database already stays, so an operator's word counts, and a second
-- run writes nothing.
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT name, setting FROM (VALUES
            ('idle_in_transaction_session_timeout', '30s'),
            ('lock_timeout', '10s'),
            ('enable_seqscan', 'off'),
            ('jit', 'off')) AS wanted(name, setting)
         WHERE NOT EXISTS (
            SELECT 1 FROM pg_db_role_setting s
              JOIN pg_database d ON d.oid = s.setdatabase AND d.datname = current_database()
              JOIN pg_roles r ON r.oid = s.setrole AND r.rolname = current_user
              CROSS JOIN unnest(s.setconfig) AS given WHERE split_part(given, '=', 1) = wanted.name)
    LOOP
        EXECUTE format('ALTER ROLE CURRENT_USER IN DATABASE %I SET %I = %L', current_database(), one.name, one.setting);
    END LOOP;
END $$;
