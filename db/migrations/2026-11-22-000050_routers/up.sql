-- Networks outside, routers and floating IPs.

-- A network is external through a policy, as it is shared through one.
INSERT INTO rbac_policies (id, project_id, object_type, object_id, action)
    SELECT gen_random_uuid(), project_id, 'network', id, 'access_as_external' FROM networks WHERE external
    ON CONFLICT DO NOTHING;
ALTER TABLE networks DROP COLUMN external;

CREATE TABLE routers (
    id              uuid PRIMARY KEY,
    project_id      uuid NOT NULL,
    name            text NOT NULL COLLATE "C",
    description     text NOT NULL,
    admin_state_up  boolean NOT NULL,
    status          text NOT NULL COLLATE "C" CHECK (status IN ('ACTIVE', 'DOWN')),
    gateway_network_id uuid REFERENCES networks,
    -- Deferred: a port goes before the row that names it is changed.
    gateway_port_id uuid UNIQUE REFERENCES ports DEFERRABLE INITIALLY DEFERRED,
    gateway_ips     jsonb NOT NULL,            -- addresses of that port: [{subnet_id, ip_address}]
    enable_snat     boolean NOT NULL,
    routes          jsonb NOT NULL,            -- [{destination, nexthop}]
    availability_zone_hints text[] NOT NULL,
    tags            text[] NOT NULL,
    revision_number bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT routers_gateway CHECK ((gateway_network_id IS NULL) = (gateway_port_id IS NULL))
);
CREATE INDEX routers_project ON routers (project_id, id);
CREATE INDEX routers_gateway_network ON routers (gateway_network_id) WHERE gateway_network_id IS NOT NULL;

-- Which ports are interfaces. The ports say so too (device_owner, device_id), but that their owners may write.
CREATE TABLE router_interfaces (
    port_id         uuid PRIMARY KEY REFERENCES ports,
    router_id       uuid NOT NULL REFERENCES routers
);
CREATE INDEX router_interfaces_router ON router_interfaces (router_id);

CREATE TABLE floatingips (
    id              uuid PRIMARY KEY,
    project_id      uuid NOT NULL,
    description     text NOT NULL,
    floating_network_id uuid NOT NULL REFERENCES networks,
    floating_port_id uuid NOT NULL UNIQUE REFERENCES ports DEFERRABLE INITIALLY DEFERRED,   -- holds the address
    floating_ip_address inet NOT NULL,
    subnet_id       uuid,                      -- that the address was wanted from
    port_id         uuid CONSTRAINT floatingips_port REFERENCES ports,
    fixed_ip_address inet,
    router_id       uuid REFERENCES routers,
    status          text NOT NULL COLLATE "C" CHECK (status IN ('ACTIVE', 'DOWN', 'ERROR')),
    tags            text[] NOT NULL,
    revision_number bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT floatingips_whole CHECK ((port_id IS NULL) = (fixed_ip_address IS NULL)
                                    AND (port_id IS NULL) = (router_id IS NULL)),
    -- Also the index by port.
    CONSTRAINT floatingips_once UNIQUE (port_id, fixed_ip_address, floating_network_id)
);
CREATE INDEX floatingips_project ON floatingips (project_id, id);
CREATE INDEX floatingips_network ON floatingips (floating_network_id);
CREATE INDEX floatingips_router ON floatingips (router_id) WHERE router_id IS NOT NULL;
