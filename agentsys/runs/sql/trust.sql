-- Where the values of a run come from.

-- name: lineage_run
-- A run as far as its values' origin goes: who has made it, and what its agent's version trusts.
SELECT r.id, r.parent_run_id, r.parent_step, r.plan IS NOT NULL AS planned_by_people, v.mode, v.approvals,
       ARRAY(SELECT DISTINCT f.written_by FROM runs_runfile f WHERE f.run_id = r.id AND f.written_by <> '') AS writers
  FROM runs_run r JOIN agents_agentversion v ON v.id = r.agent_version_id
 WHERE r.id = %(run_id)s;

-- name: lineage_steps
-- All its steps without their documents, in the order in which they were made.
SELECT id, key, kind, tool, depends_on, caller, plan_version FROM runs_step WHERE run_id = %(run_id)s ORDER BY id;

-- name: lineage_child
-- The run that a step has started.
SELECT id FROM runs_run WHERE parent_step = %(step_id)s;

-- name: lineage_parent
-- The step that has started a run.
SELECT run_id, key FROM runs_step WHERE id = %(step_id)s;
