-- +goose Up
-- identity_roles is written by cascade/identity. A role may belong to one domain, and its name is its own only there.
ALTER TABLE identity_roles ADD COLUMN domain_id TEXT NOT NULL DEFAULT ''; -- '' for a global role
DROP INDEX identity_roles_name;
CREATE UNIQUE INDEX identity_roles_name ON identity_roles (domain_id, name);
