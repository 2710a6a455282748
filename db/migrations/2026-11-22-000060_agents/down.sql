ALTER TABLE host_state DROP COLUMN started_at;
ALTER TABLE hosts DROP COLUMN description, ALTER COLUMN name TYPE text COLLATE "default";
