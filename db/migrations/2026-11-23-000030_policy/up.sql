-- Security groups act: short names of groups and of the combinations of groups that ports have.

CREATE SEQUENCE security_group_number AS integer;
ALTER TABLE security_groups
    ADD COLUMN number integer NOT NULL UNIQUE DEFAULT nextval('security_group_number'),
    ADD COLUMN generation integer NOT NULL DEFAULT 0;   -- rises whenever less may pass than before
ALTER SEQUENCE security_group_number OWNED BY security_groups.number;

CREATE SEQUENCE address_group_number AS integer;
ALTER TABLE address_groups
    ADD COLUMN number integer NOT NULL UNIQUE DEFAULT nextval('address_group_number');
ALTER SEQUENCE address_group_number OWNED BY address_groups.number;

-- A combination has one number as long as any port has it: policy and identity in the data plane. By hash, because
-- a btree takes no row of more than a third of a page, and a port may have any number of groups.
CREATE SEQUENCE group_set_number AS integer;
CREATE TABLE group_sets (
    number          integer PRIMARY KEY DEFAULT nextval('group_set_number'),
    groups          integer[] NOT NULL,        -- numbers of security groups, in order
    created_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT group_sets_once EXCLUDE USING hash (groups WITH =)
);
ALTER SEQUENCE group_set_number OWNED BY group_sets.number;
CREATE INDEX group_sets_groups ON group_sets USING gin (groups);

-- 0: packets of the port are not filtered.
CREATE INDEX ports_group_set ON ports (group_set) WHERE group_set <> 0;

-- Ports that there are get their sets. Ports of the network itself (DHCP, routers) are not filtered.
WITH wanted AS (
    SELECT p.id, coalesce(array_agg(g.number ORDER BY g.number) FILTER (WHERE g.number IS NOT NULL), '{}') AS groups
    FROM ports p LEFT JOIN port_security_groups m ON m.port_id = p.id
    LEFT JOIN security_groups g ON g.id = m.security_group_id
    WHERE p.port_security_enabled AND NOT starts_with(p.device_owner, 'network:') GROUP BY p.id
), made AS (
    INSERT INTO group_sets (groups) SELECT DISTINCT groups FROM wanted RETURNING number, groups
)
UPDATE ports p SET group_set = m.number FROM wanted w JOIN made m ON m.groups = w.groups WHERE p.id = w.id;

-- Entries have other bodies now: whoever starts first compiles all of them anew, as after a restored dump.
UPDATE feed SET history = '' WHERE EXISTS (SELECT FROM hosts);
