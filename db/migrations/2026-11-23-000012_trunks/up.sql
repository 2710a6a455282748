-- Trunks: a port whose machine sends the packets of other ports too, each with its VLAN tag.

CREATE TABLE trunks (
    id              uuid PRIMARY KEY,
    project_id      uuid NOT NULL,
    name            text NOT NULL COLLATE "C",
    description     text NOT NULL,
    admin_state_up  boolean NOT NULL,
    status          text NOT NULL COLLATE "C" CHECK (status IN ('ACTIVE', 'BUILD', 'DEGRADED', 'DOWN', 'ERROR')),
    port_id         uuid NOT NULL REFERENCES ports,
    sub_ports       jsonb NOT NULL,            -- [{port_id, segmentation_type, segmentation_id}]
    tags            text[] NOT NULL DEFAULT '{}',
    revision_number bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX trunks_project ON trunks (project_id, id);

-- Which ports trunks have, their own port among them: each is in one trunk, in one role.
CREATE TABLE trunk_ports (
    port_id         uuid PRIMARY KEY REFERENCES ports,
    trunk_id        uuid NOT NULL REFERENCES trunks ON DELETE CASCADE
);
CREATE INDEX trunk_ports_trunk ON trunk_ports (trunk_id);
