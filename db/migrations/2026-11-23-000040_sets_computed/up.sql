-- What is not there never passes for "not filtered". Whether packets of a port are filtered is said by
-- port_security_enabled and device_owner alone; a port without the number of its combination of groups
-- (null: not computed) lets nothing pass.

DROP INDEX ports_group_set;
ALTER TABLE ports ALTER COLUMN group_set DROP DEFAULT, ALTER COLUMN group_set DROP NOT NULL;
UPDATE ports SET group_set = NULL WHERE group_set = 0;
CREATE INDEX ports_group_set ON ports (group_set) WHERE group_set IS NOT NULL;

-- The last number stands for a port whose combination is not known.
ALTER SEQUENCE group_set_number MAXVALUE 2147483646;

-- A number outlives the flows that know their other side by it: it is forgotten by when it was last used.
ALTER TABLE group_sets ADD COLUMN unused_since timestamptz;   -- null: a port has it, or nobody has looked yet

-- Ports of which somebody who did not know of combinations changed the groups get the right ones, and
-- whoever starts first then compiles everything anew, as after a restored dump.
CREATE TEMPORARY TABLE wanted ON COMMIT DROP AS
    SELECT p.id, p.group_set, coalesce(array_agg(g.number ORDER BY g.number) FILTER (WHERE g.number IS NOT NULL), '{}')
        AS groups
    FROM ports p LEFT JOIN port_security_groups m ON m.port_id = p.id
    LEFT JOIN security_groups g ON g.id = m.security_group_id
    WHERE p.port_security_enabled AND NOT starts_with(p.device_owner, 'network:') GROUP BY p.id;
DELETE FROM wanted w USING group_sets s WHERE s.number = w.group_set AND s.groups = w.groups;
INSERT INTO group_sets (groups) SELECT DISTINCT groups FROM wanted ON CONFLICT DO NOTHING;
UPDATE ports p SET group_set = s.number FROM wanted w JOIN group_sets s ON s.groups = w.groups WHERE p.id = w.id;
UPDATE feed SET history = '' WHERE EXISTS (SELECT FROM wanted) AND EXISTS (SELECT FROM hosts);
