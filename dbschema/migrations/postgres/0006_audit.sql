-- +goose Up
-- audit_events is written by cascade/audit.
CREATE TABLE audit_events (
    id         TEXT NOT NULL PRIMARY KEY,
    at         TIMESTAMPTZ NOT NULL,
    request_id TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    user_name  TEXT NOT NULL,
    project_id TEXT NOT NULL,
    remote     TEXT NOT NULL,
    action     TEXT NOT NULL,
    target     TEXT NOT NULL,
    site       TEXT NOT NULL,
    outcome    TEXT NOT NULL,
    detail     TEXT NOT NULL
);
CREATE INDEX audit_events_by_time ON audit_events (at, id);
CREATE INDEX audit_events_by_project ON audit_events (project_id, at);
