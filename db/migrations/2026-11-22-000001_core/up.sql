-- The tables of networks, identity, hosts and the feed.
--
-- Invariants live here even where code holds them too: a bug then fails a request
-- instead of giving two ports one address.

CREATE EXTENSION IF NOT EXISTS btree_gist;

-- ---------------------------------------------------------------- identity

CREATE TABLE domains (
    id          text PRIMARY KEY,          -- 'default', or 32 hexadecimal digits
    name        text NOT NULL UNIQUE,
    enabled     boolean NOT NULL DEFAULT true
);

-- Keystone's ids are 32 hexadecimal digits without dashes; a uuid column holds them.
CREATE TABLE projects (
    id          uuid PRIMARY KEY,
    domain_id   text NOT NULL REFERENCES domains,
    name        text NOT NULL,
    description text NOT NULL DEFAULT '',
    enabled     boolean NOT NULL DEFAULT true,
    UNIQUE (domain_id, name)
);

CREATE TABLE users (
    id            uuid PRIMARY KEY,
    domain_id     text NOT NULL REFERENCES domains,
    name          text NOT NULL,
    password_hash text NOT NULL,           -- argon2id, PHC string
    enabled       boolean NOT NULL DEFAULT true,
    default_project_id uuid REFERENCES projects ON DELETE SET NULL,   -- scope of a login that names none
    UNIQUE (domain_id, name)
);

CREATE TABLE role_assignments (
    user_id     uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    project_id  uuid REFERENCES projects ON DELETE CASCADE,   -- null: the whole system
    role        text NOT NULL CHECK (role IN ('admin', 'member', 'reader', 'service')),
    UNIQUE NULLS NOT DISTINCT (user_id, project_id, role)
);

-- Tokens are signed and carry everything; only their revocation is stored, until they expire.
CREATE TABLE revoked_tokens (
    audit_id    text PRIMARY KEY,          -- of one token; or user:ID, project:ID for all of an account
    issued_before timestamptz,             -- those issued before; null: whenever
    expires_at  timestamptz NOT NULL
);

-- ---------------------------------------------------------------- hosts

CREATE TABLE hosts (
    id            uuid PRIMARY KEY,
    number        integer GENERATED ALWAYS AS IDENTITY UNIQUE,
    name          text NOT NULL UNIQUE,    -- binding:host_id, and the certificate's SAN
    underlay      inet NOT NULL UNIQUE,
    mtu           integer NOT NULL CHECK (mtu BETWEEN 1280 AND 65535),
    az            text NOT NULL,
    rack          text NOT NULL,
    transit       text NOT NULL DEFAULT 'yes' CHECK (transit IN ('yes', 'no', 'prefer')),
    weight        integer NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 1000),
    transit_hook  text NOT NULL DEFAULT 'tcx' CHECK (transit_hook IN ('xdp', 'tcx')),
    version       text NOT NULL DEFAULT '',
    abi           integer NOT NULL DEFAULT 0,
    shrink_until  timestamptz,             -- until then its agent may drop over half of its ports at once
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    revision_number bigint NOT NULL DEFAULT 0
);

-- What changes at every sync. No index but the key, so that updates stay on their page (HOT).
CREATE TABLE host_state (
    host        integer PRIMARY KEY REFERENCES hosts (number) ON DELETE CASCADE,
    boot_id     text NOT NULL,
    epoch       text,
    cursor      text,                      -- acknowledged pg_snapshot
    failures    jsonb NOT NULL DEFAULT '[]',
    seen_at     timestamptz NOT NULL       -- the lease counts from here
) WITH (fillfactor = 50);

-- ---------------------------------------------------------------- networks

CREATE TABLE networks (
    id              uuid PRIMARY KEY,
    project_id      uuid NOT NULL,
    name            text NOT NULL COLLATE "C" DEFAULT '',
    description     text NOT NULL DEFAULT '',
    admin_state_up  boolean NOT NULL DEFAULT true,
    status          text NOT NULL DEFAULT 'ACTIVE',
    vni             integer NOT NULL UNIQUE CHECK (vni BETWEEN 4096 AND 16777215),
    mtu             integer NOT NULL CHECK (mtu BETWEEN 68 AND 65535),
    shared          boolean NOT NULL DEFAULT false,
    external        boolean NOT NULL DEFAULT false,
    port_security_enabled boolean NOT NULL DEFAULT true,
    tags            text[] NOT NULL DEFAULT '{}',
    revision_number bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX networks_project ON networks (project_id, id);

CREATE SEQUENCE subnet_number AS integer;

CREATE TABLE subnets (
    id              uuid PRIMARY KEY,
    project_id      uuid NOT NULL,
    network_id      uuid NOT NULL REFERENCES networks,
    number          integer NOT NULL UNIQUE DEFAULT nextval('subnet_number'),
    name            text NOT NULL COLLATE "C" DEFAULT '',
    description     text NOT NULL DEFAULT '',
    ip_version      smallint NOT NULL CHECK (ip_version IN (4, 6)),
    cidr            cidr NOT NULL,
    gateway_ip      inet,
    enable_dhcp     boolean NOT NULL DEFAULT true,
    dns_nameservers inet[] NOT NULL DEFAULT '{}',
    host_routes     jsonb NOT NULL DEFAULT '[]',      -- [{destination, nexthop}]
    allocation_pools jsonb NOT NULL DEFAULT '[]',     -- [{start, end}], in order, apart
    tags            text[] NOT NULL DEFAULT '{}',
    revision_number bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (network_id, id),
    CONSTRAINT subnets_gateway_family CHECK (gateway_ip IS NULL OR family(gateway_ip) = ip_version OR ip_version NOT IN (4, 6)),
    CONSTRAINT subnets_family CHECK (family(cidr) = ip_version),
    CONSTRAINT subnets_overlap EXCLUDE USING gist (network_id WITH =, cidr inet_ops WITH &&)
);
CREATE INDEX subnets_project ON subnets (project_id, id);

CREATE SEQUENCE port_number AS integer;

CREATE TABLE ports (
    id              uuid PRIMARY KEY,
    project_id      uuid NOT NULL,
    network_id      uuid NOT NULL REFERENCES networks,
    number          integer NOT NULL UNIQUE DEFAULT nextval('port_number'),
    name            text NOT NULL COLLATE "C" DEFAULT '',
    description     text NOT NULL DEFAULT '',
    mac             macaddr NOT NULL,
    admin_state_up  boolean NOT NULL DEFAULT true,
    device_id       text NOT NULL COLLATE "C" DEFAULT '',
    device_owner    text NOT NULL COLLATE "C" DEFAULT '',
    port_security_enabled boolean NOT NULL DEFAULT true,
    address_pairs   jsonb NOT NULL DEFAULT '[]',      -- [{ip_address, mac_address}]
    status          text NOT NULL DEFAULT 'DOWN' CHECK (status IN ('ACTIVE', 'BUILD', 'DOWN', 'ERROR')),
    status_reason   text NOT NULL DEFAULT '',
    host            integer REFERENCES hosts (number),   -- null: not bound
    generation      integer NOT NULL DEFAULT 0,          -- +1 per binding
    moved_from      integer REFERENCES hosts (number),   -- the former host, for 5 minutes
    moved_at        timestamptz,
    wired_generation integer,                            -- the binding its host reports as wired
    wired_at        timestamptz,
    host_name       text NOT NULL DEFAULT '',            -- binding:host_id as asked for, also of an unknown host
    vnic_type       text NOT NULL DEFAULT 'normal',
    vif_type        text NOT NULL DEFAULT 'unbound',
    vif_details     jsonb NOT NULL DEFAULT '{}',
    profile         jsonb NOT NULL DEFAULT '{}',
    group_set       integer NOT NULL DEFAULT 0,          -- number of the set of security groups
    tags            text[] NOT NULL DEFAULT '{}',
    revision_number bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ports_mac UNIQUE (network_id, mac)
);
CREATE INDEX ports_project ON ports (project_id, id);
CREATE INDEX ports_host ON ports (host) WHERE host IS NOT NULL;
CREATE INDEX ports_device ON ports (device_id) WHERE device_id <> '';
CREATE INDEX ports_wired ON ports (id) WHERE status = 'BUILD' AND wired_generation = generation;
CREATE INDEX ports_moved ON ports (moved_at) WHERE moved_from IS NOT NULL;

CREATE TABLE port_ips (
    subnet_id   uuid NOT NULL,
    address     inet NOT NULL,
    network_id  uuid NOT NULL,
    port_id     uuid NOT NULL REFERENCES ports ON DELETE CASCADE,
    position    smallint NOT NULL,         -- order within the port's fixed_ips
    slot        smallint NOT NULL CHECK (slot BETWEEN 0 AND 4095),
    PRIMARY KEY (subnet_id, address),
    FOREIGN KEY (network_id, subnet_id) REFERENCES subnets (network_id, id),
    CONSTRAINT port_ips_network_address UNIQUE (network_id, address)
);
CREATE INDEX port_ips_port ON port_ips (port_id);

-- ---------------------------------------------------------------- the feed

-- Stamps a row with its writer's transaction: a cursor is a snapshot, and a row is new to it
-- exactly if that snapshot did not see the transaction (CONTROLPLANE section 1).
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN NEW.xid := pg_current_xact_id()::text::bigint; RETURN NEW; END $$;

CREATE TABLE entries (
    scope       bigint NOT NULL,           -- kind << 32 | number
    slot        smallint NOT NULL DEFAULT 0,
    kind        smallint NOT NULL,
    key         bytea NOT NULL,
    body        bytea NOT NULL,
    deleted     boolean NOT NULL DEFAULT false,
    changed_at  timestamptz NOT NULL DEFAULT now(),
    xid         bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (scope, slot, kind, key)   -- a shard's entries lie together; pages go in this order
) WITH (fillfactor = 85);
CREATE INDEX entries_feed ON entries (xid, scope);
CREATE INDEX entries_scope ON entries (scope, xid);
CREATE INDEX entries_gone ON entries (changed_at) WHERE deleted;
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON entries FOR EACH ROW EXECUTE FUNCTION stamp();

CREATE TABLE subscriptions (
    host        integer NOT NULL REFERENCES hosts (number),
    scope       bigint NOT NULL,
    lo          smallint NOT NULL DEFAULT 0,
    hi          smallint NOT NULL DEFAULT 4095,
    role        smallint NOT NULL,         -- 1 itself (host, cluster), 2 bouncer, 3 divider
    state       smallint NOT NULL,         -- 1 pending, 2 active, 3 draining
    deleted     boolean NOT NULL DEFAULT false,
    changed_at  timestamptz NOT NULL DEFAULT now(),
    xid         bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (host, scope, lo, role)
);
CREATE INDEX subscriptions_scope ON subscriptions (scope);
CREATE INDEX subscriptions_feed ON subscriptions (xid, host);
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON subscriptions FOR EACH ROW EXECUTE FUNCTION stamp();

CREATE TABLE includes (
    scope       bigint NOT NULL,
    slot        smallint NOT NULL DEFAULT -1,   -- -1: the whole scope
    target      bigint NOT NULL,
    deleted     boolean NOT NULL DEFAULT false,
    last_used   timestamptz NOT NULL DEFAULT now(),
    xid         bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (scope, slot, target)
);
CREATE INDEX includes_target ON includes (target);
CREATE INDEX includes_feed ON includes (xid, scope);
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON includes FOR EACH ROW EXECUTE FUNCTION stamp();

CREATE TABLE feed (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    epoch       uuid NOT NULL,
    horizon     bigint NOT NULL DEFAULT 0
);
INSERT INTO feed (epoch) VALUES (gen_random_uuid());

-- Which history of which database cursors belong to: transaction ids of another one mean nothing.
CREATE FUNCTION feed_epoch() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT concat_ws('-', c.system_identifier, d.oid, left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), f.epoch)
    FROM pg_control_system() c, feed f, pg_database d WHERE d.datname = current_database() $$;

-- ---------------------------------------------------------------- placement

CREATE TABLE leader (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    fence       bigint NOT NULL DEFAULT 0
);
INSERT INTO leader DEFAULT VALUES;

CREATE TABLE cluster_keys (
    id          smallint PRIMARY KEY CHECK (id BETWEEN 1 AND 255),
    key         bytea NOT NULL CHECK (length(key) = 16),
    signs       boolean NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL DEFAULT now()
);
