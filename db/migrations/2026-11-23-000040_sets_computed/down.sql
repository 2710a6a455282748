-- Before, "not computed" was written as "not filtered". A port that is to be filtered must not become that.
DO $$
BEGIN
    IF EXISTS (SELECT FROM ports WHERE group_set IS NULL AND port_security_enabled
               AND NOT starts_with(device_owner, 'network:')) THEN
        RAISE EXCEPTION 'there are ports whose combination of security groups is not computed'
            USING HINT = 'Write the security groups of those ports anew.';
    END IF;
END $$;
ALTER TABLE group_sets DROP COLUMN unused_since;
ALTER SEQUENCE group_set_number MAXVALUE 2147483647;
DROP INDEX ports_group_set;
UPDATE ports SET group_set = 0 WHERE group_set IS NULL;
ALTER TABLE ports ALTER COLUMN group_set SET NOT NULL, ALTER COLUMN group_set SET DEFAULT 0;
CREATE INDEX ports_group_set ON ports (group_set) WHERE group_set <> 0;
