-- +goose Up
-- inventory_cursors is written by sync/inventory.
CREATE TABLE inventory_cursors (
    site        TEXT NOT NULL PRIMARY KEY,
    claim_token TEXT NOT NULL,
    claim_until DATETIME,
    polled_at   DATETIME, -- when the last complete poll began
    diffed_at   DATETIME, -- when the last complete diff began
    adopted_at  DATETIME, -- the time of the probe whose findings were taken over
    next_at     DATETIME NOT NULL,
    alarm       TEXT NOT NULL -- why the last diff stopped, or ''
);
