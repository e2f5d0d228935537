-- +goose Up
-- jobs is written by scheduler/jobs, bindings by cascade/binding. Whether a row has a job that has not ended was found by reading all
-- such jobs, for each row in transition every half minute. Arguments may be longer than an index holds: their first 44 characters,
-- {"id":"<UUID>", say for which row they are.
CREATE INDEX jobs_about ON jobs (substr(args, 1, 44)) WHERE state IN ('waiting', 'scheduled', 'available', 'running');
-- What the last full comparison did not see.
CREATE INDEX bindings_absent ON bindings (site, kind, top_id) WHERE absent_at IS NOT NULL;
