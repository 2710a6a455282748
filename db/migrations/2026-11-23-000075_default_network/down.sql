ALTER TABLE networks DROP COLUMN is_default;
