-- name: applied_migrations
SELECT app, name FROM django_migrations;

-- name: lanes_served
-- Lanes with a worker that polled PostgreSQL within the last minute and is not ending.
SELECT DISTINCT lane FROM infrastructure_worker
 WHERE NOT draining AND seen_at > clock_timestamp() - interval '60 seconds';
