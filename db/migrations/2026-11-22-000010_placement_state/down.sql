DROP TABLE placement_state;
ALTER TABLE hosts DROP COLUMN lost_since, DROP COLUMN gone_until;
