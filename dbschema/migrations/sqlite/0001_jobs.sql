-- Written by scheduler/jobs alone: durable jobs and what they wait for.
-- Moments are microseconds since 1970 UTC by the database's clock.
-- +goose Up
CREATE TABLE jobs (
    id               integer PRIMARY KEY AUTOINCREMENT,
    kind             text    NOT NULL,
    args             text    NOT NULL,
    queue            text    NOT NULL,
    site             text    NOT NULL,
    resource_id      text    NOT NULL,
    project_id       text    NOT NULL,
    request_id       text    NOT NULL,
    priority         integer  NOT NULL,
    state            text    NOT NULL,
    waits            integer  NOT NULL,
    tail             boolean NOT NULL,
    on_failure       text    NOT NULL,
    run_at           integer  NOT NULL,
    attempt          integer  NOT NULL,
    max_attempts     integer  NOT NULL,
    snoozes          integer  NOT NULL,
    claim            text    NOT NULL,
    claimed_by       text    NOT NULL,
    lease_until      integer  NOT NULL,
    cancel_requested boolean NOT NULL,
    errors           text    NOT NULL,
    created_at       integer  NOT NULL,
    started_at       integer  NOT NULL,
    ended_at         integer  NOT NULL
);

-- The next jobs to claim, site by site.
CREATE INDEX jobs_available ON jobs (queue, site, priority, id) WHERE state = 'available';
-- What falls due.
CREATE INDEX jobs_scheduled ON jobs (run_at) WHERE state = 'scheduled';
-- How many run at each site.
CREATE INDEX jobs_running ON jobs (queue, site) WHERE state = 'running';
-- Whose lease ran out.
CREATE INDEX jobs_lease ON jobs (lease_until) WHERE state = 'running';
-- Which job the next one of a resource must follow: never more than one.
CREATE UNIQUE INDEX jobs_tail ON jobs (resource_id) WHERE tail;
-- What ended long ago.
CREATE INDEX jobs_ended ON jobs (ended_at) WHERE ended_at > 0;
-- Lists.
CREATE INDEX jobs_resource ON jobs (resource_id, id);
CREATE INDEX jobs_project ON jobs (project_id, id);
CREATE INDEX jobs_state ON jobs (state, id);

CREATE TABLE job_edges (
    job_id   integer  NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    after_id integer  NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    ordered  boolean NOT NULL,
    needed   boolean NOT NULL,
    PRIMARY KEY (job_id, after_id)
);
-- Whom the end of a job releases.
CREATE INDEX job_edges_after ON job_edges (after_id);
