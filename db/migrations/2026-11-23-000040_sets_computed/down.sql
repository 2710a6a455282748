ALTER TABLE group_sets DROP COLUMN unused_since;
ALTER SEQUENCE group_set_number MAXVALUE 2147483647;
DROP INDEX ports_group_set;
UPDATE ports SET group_set = 0 WHERE group_set IS NULL;
ALTER TABLE ports ALTER COLUMN group_set SET NOT NULL, ALTER COLUMN group_set SET DEFAULT 0;
CREATE INDEX ports_group_set ON ports (group_set) WHERE group_set <> 0;
