-- Written by cascade/index: the rows that something is still to become of, which are looked through every half minute for
-- those that nobody works on. The condition is that of index.Store.Unsettled, word by word.
-- +goose Up
CREATE INDEX resources_unsettled ON resources (updated_at)
    WHERE (state IN ('creating', 'deleting') OR state = 'live' AND (verb_no > verb_acked_no OR task_state <> '' OR status IN ('BUILD', 'queued', 'saving', 'creating', 'downloading', 'uploading', 'attaching', 'detaching', 'extending', 'retyping', 'backing-up', 'restoring-backup', 'managing', 'reserved', 'updating')));
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES ('resources', 'resources_unsettled', '1000 1');
