-- Bindings of ports for migrations. A port is on one host: its active binding, which is columns of
-- the port, so that making and binding ports costs no second row. Hosts that it may go to next wait
-- here; nothing is programmed for them.
CREATE TABLE inactive_bindings (
    port_id         uuid NOT NULL REFERENCES ports ON DELETE CASCADE,
    host            text NOT NULL COLLATE "C",       -- by name, as binding:host_id
    vnic_type       text NOT NULL,
    vif_type        text NOT NULL,
    vif_details     jsonb NOT NULL,
    profile         jsonb NOT NULL,
    PRIMARY KEY (port_id, host)
);

-- All of them. A port that was never bound has an active binding to the host without a name, as
-- in Neutron. The id is that of the port and the host, so that a binding stays the same one when
-- another is activated: who waits for the port's lock must not find another host's behind it.
CREATE VIEW port_bindings AS
    SELECT md5(b.port_id || '/' || b.host)::uuid AS id, b.*
    FROM (
        SELECT id AS port_id, project_id, host_name COLLATE "C" AS host, vnic_type COLLATE "C" AS vnic_type,
            vif_type COLLATE "C" AS vif_type, vif_details, profile, 'ACTIVE' COLLATE "C" AS status, revision_number
        FROM ports
        UNION ALL
        SELECT w.port_id, p.project_id, w.host, w.vnic_type COLLATE "C", w.vif_type COLLATE "C", w.vif_details,
            w.profile, 'INACTIVE' COLLATE "C", p.revision_number
        FROM inactive_bindings w JOIN ports p ON p.id = w.port_id
    ) b;
