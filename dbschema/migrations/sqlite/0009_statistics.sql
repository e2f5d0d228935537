-- Written here alone: what SQLite's planner is told of the tables of 0004. Without figures it takes the index that gives the
-- order of a list, and reads every port of the cloud to find those of one server. ANALYZE would count the tables as they are
-- now, which is empty; these are the proportions of a cloud with 100,000 servers. PostgreSQL keeps its own figures.
-- +goose Up
ANALYZE;
DELETE FROM sqlite_stat1 WHERE tbl IN ('resources', 'bindings', 'refs');
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
    ('resources', 'sqlite_autoindex_resources_1', '1000000 1'),
    ('resources', 'resources_by_project', '1000000 10000 2000 2 1'),
    ('resources', 'resources_by_kind', '1000000 100000 2 1'),
    ('resources', 'resources_by_site', '1000000 50000 10000'),
    ('resources', 'resources_by_parent', '1000000 50 50'),
    ('resources', 'resources_by_device', '1000000 2 1'),
    ('resources', 'resources_by_name', '1000000 5 2'),
    ('bindings', 'sqlite_autoindex_bindings_1', '1000000 2 1'),
    ('bindings', 'bindings_by_bottom', '1000000 100000 20000 1'),
    ('bindings', 'bindings_by_kind_bottom', '1000000 100000 1'),
    ('refs', 'sqlite_autoindex_refs_1', '3000000 3 1 1'),
    ('refs', 'refs_by_target', '3000000 100 50');
-- What is being made, which placement counts again and again.
CREATE INDEX resources_creating ON resources (kind, site) WHERE state = 'creating';
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES ('resources', 'resources_creating', '1000 500 100');
