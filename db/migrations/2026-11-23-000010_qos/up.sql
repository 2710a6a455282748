-- QoS policies, their rules, and which networks, ports and floating IPs have them.

CREATE TABLE qos_policies (
    id              uuid PRIMARY KEY,
    project_id      uuid NOT NULL,
    name            text NOT NULL COLLATE "C",
    description     text NOT NULL,
    is_default      boolean NOT NULL,          -- new networks of the project have it
    tags            text[] NOT NULL DEFAULT '{}',
    revision_number bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX qos_policies_project ON qos_policies (project_id, id);
CREATE UNIQUE INDEX qos_policies_default ON qos_policies (project_id) WHERE is_default;

-- A table for each kind of rule. A policy has one rule of each kind and direction: nine at most, so
-- that no quota has to count them.
CREATE TABLE qos_bandwidth_limit_rules (
    id              uuid PRIMARY KEY,
    qos_policy_id   uuid NOT NULL REFERENCES qos_policies ON DELETE CASCADE,
    max_kbps        integer NOT NULL CHECK (max_kbps >= 0),
    max_burst_kbps  integer NOT NULL CHECK (max_burst_kbps >= 0),
    direction       text NOT NULL COLLATE "C" CHECK (direction IN ('ingress', 'egress')),
    revision_number bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (qos_policy_id, direction)
);

CREATE TABLE qos_dscp_marking_rules (
    id              uuid PRIMARY KEY,
    qos_policy_id   uuid NOT NULL UNIQUE REFERENCES qos_policies ON DELETE CASCADE,
    dscp_mark       integer NOT NULL CHECK (dscp_mark BETWEEN 0 AND 63),
    revision_number bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE qos_minimum_bandwidth_rules (
    id              uuid PRIMARY KEY,
    qos_policy_id   uuid NOT NULL REFERENCES qos_policies ON DELETE CASCADE,
    min_kbps        integer NOT NULL CHECK (min_kbps >= 0),
    direction       text NOT NULL COLLATE "C" CHECK (direction IN ('ingress', 'egress')),
    revision_number bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (qos_policy_id, direction)
);

CREATE TABLE qos_minimum_packet_rate_rules (
    id              uuid PRIMARY KEY,
    qos_policy_id   uuid NOT NULL REFERENCES qos_policies ON DELETE CASCADE,
    min_kpps        integer NOT NULL CHECK (min_kpps >= 0),
    direction       text NOT NULL COLLATE "C" CHECK (direction IN ('ingress', 'egress', 'any')),
    revision_number bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (qos_policy_id, direction)
);

CREATE TABLE qos_packet_rate_limit_rules (
    id              uuid PRIMARY KEY,
    qos_policy_id   uuid NOT NULL REFERENCES qos_policies ON DELETE CASCADE,
    max_kpps        integer NOT NULL CHECK (max_kpps >= 0),
    max_burst_kpps  integer NOT NULL CHECK (max_burst_kpps >= 0),
    direction       text NOT NULL COLLATE "C" CHECK (direction IN ('ingress', 'egress')),
    revision_number bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (qos_policy_id, direction)
);

-- The rules of a policy, of whatever kind.
CREATE VIEW qos_rules (qos_policy_id, id, kind, direction, amount, burst, created_at) AS
    SELECT qos_policy_id, id, 'bandwidth_limit', direction, max_kbps, max_burst_kbps, created_at
        FROM qos_bandwidth_limit_rules
    UNION ALL
    SELECT qos_policy_id, id, 'dscp_marking', NULL, dscp_mark, NULL, created_at FROM qos_dscp_marking_rules
    UNION ALL
    SELECT qos_policy_id, id, 'minimum_bandwidth', direction, min_kbps, NULL, created_at
        FROM qos_minimum_bandwidth_rules
    UNION ALL
    SELECT qos_policy_id, id, 'minimum_packet_rate', direction, min_kpps, NULL, created_at
        FROM qos_minimum_packet_rate_rules
    UNION ALL
    SELECT qos_policy_id, id, 'packet_rate_limit', direction, max_kpps, max_burst_kpps, created_at
        FROM qos_packet_rate_limit_rules;

ALTER TABLE networks ADD COLUMN qos_policy_id uuid CONSTRAINT networks_qos_policy REFERENCES qos_policies;
CREATE INDEX networks_qos ON networks (qos_policy_id) WHERE qos_policy_id IS NOT NULL;

ALTER TABLE floatingips ADD COLUMN qos_policy_id uuid CONSTRAINT floatingips_qos_policy REFERENCES qos_policies;
CREATE INDEX floatingips_qos ON floatingips (qos_policy_id) WHERE qos_policy_id IS NOT NULL;

-- A row for each port that has a policy: few have one, and the table of ports is wide already.
CREATE TABLE port_qos_policies (
    port_id         uuid PRIMARY KEY REFERENCES ports ON DELETE CASCADE,
    qos_policy_id   uuid NOT NULL REFERENCES qos_policies
);
CREATE INDEX port_qos_policies_policy ON port_qos_policies (qos_policy_id);
