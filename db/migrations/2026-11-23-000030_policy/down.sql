UPDATE feed SET history = '' WHERE EXISTS (SELECT FROM hosts);
DROP INDEX ports_group_set;
UPDATE ports SET group_set = 0;
DROP TABLE group_sets;
ALTER TABLE address_groups DROP COLUMN number;
ALTER TABLE security_groups DROP COLUMN number, DROP COLUMN generation;
