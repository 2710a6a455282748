-- Subnet pools, and what subnets and networks store for them.

CREATE TABLE subnetpools (
    id              uuid PRIMARY KEY,
    project_id      uuid NOT NULL,
    name            text NOT NULL COLLATE "C",
    description     text NOT NULL DEFAULT '',
    ip_version      smallint NOT NULL CHECK (ip_version IN (4, 6)),
    prefixes        inet[] NOT NULL CHECK (cardinality(prefixes) > 0),   -- the fewest, in order
    min_prefixlen   smallint NOT NULL,
    max_prefixlen   smallint NOT NULL,
    default_prefixlen smallint NOT NULL,
    default_quota   integer CHECK (default_quota >= 0),    -- addresses (/64 of IPv6) a project; null: no limit
    address_scope_id uuid,
    is_default      boolean NOT NULL DEFAULT false,
    tags            text[] NOT NULL DEFAULT '{}',
    revision_number bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT subnetpools_lengths CHECK (min_prefixlen <= default_prefixlen AND default_prefixlen <= max_prefixlen),
    CONSTRAINT subnetpools_address_scope FOREIGN KEY (address_scope_id) REFERENCES address_scopes
);
CREATE INDEX subnetpools_project ON subnetpools (project_id, id);
CREATE INDEX subnetpools_scope ON subnetpools (address_scope_id) WHERE address_scope_id IS NOT NULL;
CREATE UNIQUE INDEX subnetpools_default ON subnetpools (ip_version) WHERE is_default;

ALTER TABLE subnets
    ADD COLUMN subnetpool_id uuid,
    ADD COLUMN service_types text[] NOT NULL DEFAULT '{}',
    ADD COLUMN dns_publish_fixed_ip boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT subnets_pool FOREIGN KEY (subnetpool_id) REFERENCES subnetpools,
    -- A pool gives no address twice: what its row lock guards, and this makes sure of.
    ADD CONSTRAINT subnets_pool_overlap EXCLUDE USING gist (subnetpool_id WITH =, cidr inet_ops WITH &&);
