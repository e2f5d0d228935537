-- +goose Up
-- quota_limits and quota_usage are written by cascade/quota.
CREATE TABLE quota_limits (
    project_id TEXT NOT NULL,
    resource   TEXT NOT NULL,
    hard_limit BIGINT NOT NULL,
    PRIMARY KEY (project_id, resource)
);
CREATE TABLE quota_usage (
    project_id TEXT NOT NULL,
    resource   TEXT NOT NULL,
    used       BIGINT NOT NULL,
    PRIMARY KEY (project_id, resource)
);
