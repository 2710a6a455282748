-- Security groups, their rules, address groups, and the rules that new groups start with.

CREATE TABLE address_groups (
    id              uuid PRIMARY KEY,
    project_id      uuid NOT NULL,
    name            text NOT NULL COLLATE "C",
    description     text NOT NULL COLLATE "C",
    addresses       text[] NOT NULL,           -- ranges without host bits, sorted, each once
    revision_number bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX address_groups_project ON address_groups (project_id, id);

CREATE TABLE security_groups (
    id              uuid PRIMARY KEY,
    project_id      uuid NOT NULL,
    name            text NOT NULL COLLATE "C",
    description     text NOT NULL,
    stateful        boolean NOT NULL,
    is_default      boolean NOT NULL,          -- made by us for a project, one each
    tags            text[] NOT NULL DEFAULT '{}',
    revision_number bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX security_groups_project ON security_groups (project_id, id);
CREATE UNIQUE INDEX security_groups_default ON security_groups (project_id) WHERE is_default;

CREATE TABLE security_group_rules (
    id              uuid PRIMARY KEY,
    project_id      uuid NOT NULL,             -- the group's
    security_group_id uuid NOT NULL REFERENCES security_groups,
    belongs_to_default_sg boolean NOT NULL,
    description     text NOT NULL,
    direction       text NOT NULL COLLATE "C" CHECK (direction IN ('ingress', 'egress')),
    ethertype       text NOT NULL COLLATE "C" CHECK (ethertype IN ('IPv4', 'IPv6')),
    protocol        text COLLATE "C",          -- as the tenant named it; null: any
    protocol_number smallint CHECK (protocol_number BETWEEN 0 AND 255),
    port_range_min  integer,
    port_range_max  integer,
    remote_ip_prefix inet,                     -- as the tenant wrote it, with its host bits
    normalized_cidr cidr,
    remote_group_id uuid REFERENCES security_groups,
    remote_address_group_id uuid REFERENCES address_groups,
    revision_number bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CHECK ((protocol IS NULL) = (protocol_number IS NULL)),
    CHECK ((remote_ip_prefix IS NULL) = (normalized_cidr IS NULL))
);
-- Rules that let the same packets pass are one; the prefix of all addresses is no prefix.
CREATE UNIQUE INDEX security_group_rules_once ON security_group_rules
    (security_group_id, direction, ethertype, protocol_number, port_range_min, port_range_max,
     (nullif(nullif(normalized_cidr, '0.0.0.0/0'), '::/0')), remote_group_id, remote_address_group_id)
    NULLS NOT DISTINCT;
CREATE INDEX security_group_rules_project ON security_group_rules (project_id, id);
CREATE INDEX security_group_rules_remote ON security_group_rules (remote_group_id) WHERE remote_group_id IS NOT NULL;
CREATE INDEX security_group_rules_addresses ON security_group_rules (remote_address_group_id)
    WHERE remote_address_group_id IS NOT NULL;

-- Deleting a port takes its row here; a group that a port has cannot be deleted.
CREATE TABLE port_security_groups (
    port_id         uuid NOT NULL REFERENCES ports ON DELETE CASCADE,
    security_group_id uuid NOT NULL REFERENCES security_groups,
    PRIMARY KEY (port_id, security_group_id)
);
CREATE INDEX port_security_groups_group ON port_security_groups (security_group_id);

-- The rules that new groups start with, for operators to change.
CREATE TABLE default_security_group_rules (
    id              uuid PRIMARY KEY,
    description     text NOT NULL,
    direction       text NOT NULL COLLATE "C" CHECK (direction IN ('ingress', 'egress')),
    ethertype       text NOT NULL COLLATE "C" CHECK (ethertype IN ('IPv4', 'IPv6')),
    protocol        text COLLATE "C",
    protocol_number smallint CHECK (protocol_number BETWEEN 0 AND 255),
    port_range_min  integer,
    port_range_max  integer,
    remote_ip_prefix inet,
    normalized_cidr cidr,
    remote_parent   boolean NOT NULL,          -- the members of the new group itself: 'PARENT'
    remote_group_id uuid REFERENCES security_groups,
    remote_address_group_id uuid REFERENCES address_groups,
    used_in_default_sg boolean NOT NULL,
    used_in_non_default_sg boolean NOT NULL,
    revision_number bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CHECK ((protocol IS NULL) = (protocol_number IS NULL)),
    CHECK ((remote_ip_prefix IS NULL) = (normalized_cidr IS NULL))
);
CREATE UNIQUE INDEX default_security_group_rules_default ON default_security_group_rules
    (direction, ethertype, protocol_number, port_range_min, port_range_max,
     (nullif(nullif(normalized_cidr, '0.0.0.0/0'), '::/0')), remote_parent, remote_group_id, remote_address_group_id)
    NULLS NOT DISTINCT WHERE used_in_default_sg;
CREATE UNIQUE INDEX default_security_group_rules_other ON default_security_group_rules
    (direction, ethertype, protocol_number, port_range_min, port_range_max,
     (nullif(nullif(normalized_cidr, '0.0.0.0/0'), '::/0')), remote_parent, remote_group_id, remote_address_group_id)
    NULLS NOT DISTINCT WHERE used_in_non_default_sg;

-- As Neutron's: everything may go out, and members of a default group may talk to each other.
INSERT INTO default_security_group_rules
    (id, description, direction, ethertype, remote_parent, used_in_default_sg, used_in_non_default_sg) VALUES
    (gen_random_uuid(), 'Legacy default SG rule for egress traffic', 'egress', 'IPv4', false, true, true),
    (gen_random_uuid(), 'Legacy default SG rule for egress traffic', 'egress', 'IPv6', false, true, true),
    (gen_random_uuid(), 'Legacy default SG rule for ingress traffic', 'ingress', 'IPv4', true, true, false),
    (gen_random_uuid(), 'Legacy default SG rule for ingress traffic', 'ingress', 'IPv6', true, true, false);
