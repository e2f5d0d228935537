-- +goose Up
-- resources and refs are written by cascade/index, bindings by cascade/binding, project_homes by cascade/placement.
CREATE TABLE resources (
    id             TEXT NOT NULL PRIMARY KEY,
    kind           TEXT NOT NULL,
    project_id     TEXT NOT NULL,
    user_id        TEXT NOT NULL,
    site           TEXT NOT NULL,
    name           TEXT NOT NULL,
    description    TEXT NOT NULL,
    state          TEXT NOT NULL,
    status         TEXT NOT NULL,
    task_state     TEXT NOT NULL,
    fault          TEXT NOT NULL,
    parent_id      TEXT NOT NULL,
    zone           TEXT NOT NULL,
    flavor_id      TEXT NOT NULL,
    image_id       TEXT NOT NULL,
    key_name       TEXT NOT NULL,
    device_id      TEXT NOT NULL,
    visibility     TEXT NOT NULL,
    spec           TEXT NOT NULL,
    observed       TEXT NOT NULL,
    observed_admin TEXT NOT NULL,
    observed_at    DATETIME,
    verb_no        BIGINT NOT NULL,
    verb_acked_no  BIGINT NOT NULL,
    verb_acked_at  DATETIME,
    missing_since  DATETIME,
    generation     BIGINT NOT NULL,
    applied        BIGINT NOT NULL,
    version        BIGINT NOT NULL,
    created_at     DATETIME NOT NULL,
    updated_at     DATETIME NOT NULL,
    launched_at    DATETIME,
    deleted_at     DATETIME
);
CREATE INDEX resources_by_project ON resources (project_id, kind, created_at, id);
CREATE INDEX resources_by_kind ON resources (kind, created_at, id);
CREATE INDEX resources_by_site ON resources (site, kind);
CREATE INDEX resources_by_parent ON resources (parent_id, kind);
CREATE INDEX resources_by_device ON resources (device_id, kind);
CREATE INDEX resources_by_name ON resources (name, kind);
CREATE TABLE refs (
    from_id TEXT NOT NULL,
    to_id   TEXT NOT NULL,
    role    TEXT NOT NULL,
    PRIMARY KEY (from_id, to_id, role)
);
CREATE INDEX refs_by_target ON refs (to_id, role);
CREATE TABLE bindings (
    top_id       TEXT NOT NULL,
    site         TEXT NOT NULL,
    kind         TEXT NOT NULL,
    project_id   TEXT NOT NULL,
    bottom_id    TEXT NOT NULL,
    state        TEXT NOT NULL,
    claim_token  TEXT NOT NULL,
    claim_until  DATETIME,
    attempted_at DATETIME,
    generation   BIGINT NOT NULL,
    adopted      BOOLEAN NOT NULL,
    detail       TEXT NOT NULL,
    created_at   DATETIME NOT NULL,
    updated_at   DATETIME NOT NULL,
    PRIMARY KEY (top_id, site)
);
-- One bottom stands for one top, but for what is only mapped: two flavors of equal size may share one at a site.
CREATE UNIQUE INDEX bindings_by_bottom ON bindings (site, kind, bottom_id)
    WHERE bottom_id <> '' AND kind NOT IN ('flavor', 'volume_type');
CREATE INDEX bindings_by_kind_bottom ON bindings (kind, bottom_id);
CREATE TABLE project_homes (
    project_id TEXT NOT NULL PRIMARY KEY,
    site       TEXT NOT NULL,
    created_at DATETIME NOT NULL
);
