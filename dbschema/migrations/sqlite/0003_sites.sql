-- +goose Up
-- The registered bottom clouds. sites, site_zones and site_projects are written by sites/registry, site_health by sync/health.
CREATE TABLE sites (
    name               TEXT PRIMARY KEY,
    region             TEXT NOT NULL,
    auth_url           TEXT NOT NULL,
    cloud_key          TEXT NOT NULL,
    tenancy            TEXT NOT NULL CHECK (tenancy IN ('project', 'static', 'shared')),
    enabled            BOOLEAN NOT NULL,
    draining           BOOLEAN NOT NULL,
    state              TEXT NOT NULL CHECK (state IN ('active', 'removing')),
    credential         BLOB NOT NULL,
    key_id             TEXT NOT NULL,
    credential_version BIGINT NOT NULL,
    account            TEXT NOT NULL,
    capabilities       TEXT NOT NULL,
    probed_at          TIMESTAMP NOT NULL,
    version            BIGINT NOT NULL,
    created_at         TIMESTAMP NOT NULL,
    updated_at         TIMESTAMP NOT NULL
);
CREATE UNIQUE INDEX sites_cloud_key ON sites (cloud_key);
CREATE INDEX sites_key_id ON sites (key_id);

CREATE TABLE site_zones (
    site        TEXT NOT NULL REFERENCES sites (name) ON DELETE CASCADE,
    top_zone    TEXT NOT NULL,
    service     TEXT NOT NULL,
    bottom_zone TEXT NOT NULL,
    edited      BOOLEAN NOT NULL,
    PRIMARY KEY (site, top_zone, service)
);

CREATE TABLE site_projects (
    site              TEXT NOT NULL REFERENCES sites (name) ON DELETE CASCADE,
    project_id        TEXT NOT NULL,
    bottom_project_id TEXT NOT NULL,
    bottom_user_id    TEXT NOT NULL,
    credential        BLOB NOT NULL,
    key_id            TEXT NOT NULL,
    version           BIGINT NOT NULL,
    state             TEXT NOT NULL CHECK (state IN ('pending', 'ready', 'releasing')),
    made              BOOLEAN NOT NULL,
    created_at        TIMESTAMP NOT NULL,
    updated_at        TIMESTAMP NOT NULL,
    PRIMARY KEY (site, project_id)
);
-- No two projects of Top share a project of a site: they would see each other's resources.
CREATE UNIQUE INDEX site_projects_bottom ON site_projects (site, bottom_project_id) WHERE bottom_project_id <> '';
CREATE INDEX site_projects_key_id ON site_projects (key_id);
CREATE INDEX site_projects_project ON site_projects (project_id);

CREATE TABLE site_health (
    site          TEXT PRIMARY KEY REFERENCES sites (name) ON DELETE CASCADE,
    state         TEXT NOT NULL CHECK (state IN ('unknown', 'up', 'degraded', 'down')),
    reason        TEXT NOT NULL,
    since         TIMESTAMP NOT NULL,
    run           INTEGER NOT NULL,
    run_worse     BOOLEAN NOT NULL,
    run_state     TEXT NOT NULL,
    run_reason    TEXT NOT NULL,
    checked_at    TIMESTAMP,
    next_check_at TIMESTAMP NOT NULL,
    next_probe_at TIMESTAMP NOT NULL,
    claim_token   TEXT NOT NULL,
    claim_until   TIMESTAMP,
    lost          TEXT NOT NULL
);
CREATE INDEX site_health_next ON site_health (next_check_at);
