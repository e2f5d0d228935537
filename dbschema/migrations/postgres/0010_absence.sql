-- +goose Up
-- bindings are written by cascade/binding, inventory_cursors by sync/inventory.
-- Absence at a site is a suspicion at first (cascade/README.md: Absence), and a full comparison goes on where it stopped.
ALTER TABLE bindings ADD COLUMN absent_at TIMESTAMPTZ; -- when the list began that alone did not show the bottom
ALTER TABLE bindings ADD COLUMN missing_since TIMESTAMPTZ; -- first of the looks by id that did not find it
CREATE INDEX bindings_in_order ON bindings (site, kind, bottom_id COLLATE "C");
ALTER TABLE inventory_cursors ADD COLUMN adopt_alarm TEXT NOT NULL DEFAULT ''; -- why what the site shares was not believed, or ''
ALTER TABLE inventory_cursors ADD COLUMN progress TEXT NOT NULL DEFAULT ''; -- JSON of a full comparison that is under way, or ''
