-- Written by scheduler/jobs alone: the W3C traceparent of what made a job, so that its attempts are in the same trace.
-- +goose Up
ALTER TABLE jobs ADD COLUMN trace text NOT NULL DEFAULT '';
