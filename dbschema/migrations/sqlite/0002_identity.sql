-- +goose Up
-- The built-in Keystone: who there is, who may do what, and the tokens. All tables are written by cascade/identity.
CREATE TABLE identity_domains (
    id          TEXT NOT NULL PRIMARY KEY,
    name        TEXT NOT NULL,
    description TEXT NOT NULL,
    enabled     BOOLEAN NOT NULL,
    extra       TEXT NOT NULL,
    created_at  TIMESTAMP NOT NULL
);
CREATE UNIQUE INDEX identity_domains_name ON identity_domains (name);

CREATE TABLE identity_projects (
    id          TEXT NOT NULL PRIMARY KEY,
    domain_id   TEXT NOT NULL REFERENCES identity_domains (id),
    name        TEXT NOT NULL,
    description TEXT NOT NULL,
    enabled     BOOLEAN NOT NULL,
    tags        TEXT NOT NULL,
    extra       TEXT NOT NULL,
    created_at  TIMESTAMP NOT NULL
);
CREATE UNIQUE INDEX identity_projects_name ON identity_projects (domain_id, name);

CREATE TABLE identity_users (
    id                 TEXT NOT NULL PRIMARY KEY,
    domain_id          TEXT NOT NULL REFERENCES identity_domains (id),
    name               TEXT NOT NULL,
    enabled            BOOLEAN NOT NULL,
    default_project_id TEXT NOT NULL,
    password_hash      TEXT NOT NULL,
    password_at        TIMESTAMP,
    extra              TEXT NOT NULL,
    created_at         TIMESTAMP NOT NULL
);
CREATE UNIQUE INDEX identity_users_name ON identity_users (domain_id, name);

CREATE TABLE identity_groups (
    id          TEXT NOT NULL PRIMARY KEY,
    domain_id   TEXT NOT NULL REFERENCES identity_domains (id),
    name        TEXT NOT NULL,
    description TEXT NOT NULL,
    extra       TEXT NOT NULL,
    created_at  TIMESTAMP NOT NULL
);
CREATE UNIQUE INDEX identity_groups_name ON identity_groups (domain_id, name);

CREATE TABLE identity_group_users (
    group_id TEXT NOT NULL REFERENCES identity_groups (id) ON DELETE CASCADE,
    user_id  TEXT NOT NULL REFERENCES identity_users (id) ON DELETE CASCADE,
    PRIMARY KEY (group_id, user_id)
);
CREATE INDEX identity_group_users_user ON identity_group_users (user_id);

CREATE TABLE identity_roles (
    id          TEXT NOT NULL PRIMARY KEY,
    name        TEXT NOT NULL,
    description TEXT NOT NULL,
    extra       TEXT NOT NULL,
    created_at  TIMESTAMP NOT NULL
);
CREATE UNIQUE INDEX identity_roles_name ON identity_roles (name);

CREATE TABLE identity_assignments (
    actor_kind  TEXT NOT NULL CHECK (actor_kind IN ('user', 'group')),
    actor_id    TEXT NOT NULL,
    target_kind TEXT NOT NULL CHECK (target_kind IN ('project', 'domain')),
    target_id   TEXT NOT NULL,
    role_id     TEXT NOT NULL REFERENCES identity_roles (id) ON DELETE CASCADE,
    PRIMARY KEY (actor_kind, actor_id, target_kind, target_id, role_id)
);
CREATE INDEX identity_assignments_target ON identity_assignments (target_kind, target_id);
CREATE INDEX identity_assignments_role ON identity_assignments (role_id);

CREATE TABLE identity_credentials (
    id           TEXT NOT NULL PRIMARY KEY,
    user_id      TEXT NOT NULL REFERENCES identity_users (id) ON DELETE CASCADE,
    project_id   TEXT NOT NULL REFERENCES identity_projects (id) ON DELETE CASCADE,
    name         TEXT NOT NULL,
    description  TEXT NOT NULL,
    secret_hash  TEXT NOT NULL,
    role_ids     TEXT NOT NULL,
    unrestricted BOOLEAN NOT NULL,
    expires_at   TIMESTAMP,
    created_at   TIMESTAMP NOT NULL
);
CREATE UNIQUE INDEX identity_credentials_name ON identity_credentials (user_id, name);
CREATE INDEX identity_credentials_project ON identity_credentials (project_id);

CREATE TABLE identity_tokens (
    hash          TEXT NOT NULL PRIMARY KEY,
    user_id       TEXT NOT NULL REFERENCES identity_users (id) ON DELETE CASCADE,
    project_id    TEXT NOT NULL,
    domain_id     TEXT NOT NULL,
    credential_id TEXT NOT NULL,
    methods       TEXT NOT NULL,
    audit_id      TEXT NOT NULL,
    chain_id      TEXT NOT NULL,
    issued_at     TIMESTAMP NOT NULL,
    expires_at    TIMESTAMP NOT NULL
);
CREATE INDEX identity_tokens_user ON identity_tokens (user_id);
CREATE INDEX identity_tokens_credential ON identity_tokens (credential_id);
CREATE INDEX identity_tokens_expires ON identity_tokens (expires_at);
