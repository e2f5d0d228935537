-- SQLite's planner is given figures by the file of this number; PostgreSQL counts its tables itself.
-- +goose Up
-- What is being made, which placement counts again and again. Of the table of 0004, written by cascade/index.
CREATE INDEX resources_creating ON resources (kind, site) WHERE state = 'creating';
