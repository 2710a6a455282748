-- What the API's frame keeps for every resource: sharing, quotas, the audit log, address scopes.

-- ---------------------------------------------------------------- sharing

-- Whom an object is shared with. `shared: true` of an object is its policy for everybody.
CREATE TABLE rbac_policies (
    id              uuid PRIMARY KEY,
    project_id      uuid NOT NULL,             -- whose policy it is: the object's owner's, usually
    object_type     text NOT NULL,             -- 'network', 'address_scope', …
    object_id       uuid NOT NULL,
    target_project  uuid,                      -- null: everybody
    action          text NOT NULL CHECK (action IN ('access_as_shared', 'access_as_external')),
    revision_number bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    -- Visibility asks for an object's policies: this is that index too.
    CONSTRAINT rbac_policies_once UNIQUE NULLS NOT DISTINCT (object_type, object_id, target_project, action)
);
CREATE INDEX rbac_policies_project ON rbac_policies (project_id, id);

INSERT INTO rbac_policies (id, project_id, object_type, object_id, action)
    SELECT gen_random_uuid(), project_id, 'network', id, 'access_as_shared' FROM networks WHERE shared;
ALTER TABLE networks DROP COLUMN shared;

-- ---------------------------------------------------------------- quotas

-- One counter a project and resource, made when first needed and updated last in a transaction:
-- its row lock makes concurrent creates take turns, so that no limit is ever passed by one.
CREATE TABLE quotas (
    project_id      uuid NOT NULL,
    resource        text NOT NULL,
    used            bigint NOT NULL DEFAULT 0,
    max             bigint,                    -- null: the default of the cloud; -1: no limit
    PRIMARY KEY (project_id, resource)
) WITH (fillfactor = 50);
INSERT INTO quotas (project_id, resource, used)
    SELECT project_id, 'network', count(*) FROM networks GROUP BY 1 UNION ALL
    SELECT project_id, 'subnet', count(*) FROM subnets GROUP BY 1 UNION ALL
    SELECT project_id, 'port', count(*) FROM ports GROUP BY 1;

-- ---------------------------------------------------------------- the audit log

-- Who changed what, when, from where. Written in the transaction of the change.
CREATE TABLE audit_events (
    id              uuid PRIMARY KEY,          -- UUIDv7: sorts by time
    at              timestamptz NOT NULL DEFAULT now(),
    request_id      text NOT NULL COLLATE "C",
    remote          text NOT NULL COLLATE "C",
    user_id         text NOT NULL COLLATE "C",
    user_name       text NOT NULL COLLATE "C",
    user_project    uuid,                      -- that its token is for
    roles           text[] NOT NULL,
    action          text NOT NULL COLLATE "C", -- create, update, delete, or the name of an action
    object_type     text NOT NULL COLLATE "C",
    object_id       uuid NOT NULL,
    project_id      uuid,                      -- the object's
    changes         jsonb NOT NULL             -- what was sent
);
CREATE INDEX audit_events_object ON audit_events (object_id);
CREATE INDEX audit_events_project ON audit_events (project_id, at);
CREATE INDEX audit_events_at ON audit_events (at);

-- Nobody changes history by accident or through the API. How long it is kept is the operator's
-- decision: ALTER TABLE audit_events DISABLE TRIGGER append_only, delete, and ENABLE it again.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- ---------------------------------------------------------------- address scopes

CREATE TABLE address_scopes (
    id              uuid PRIMARY KEY,
    project_id      uuid NOT NULL,
    name            text NOT NULL COLLATE "C",
    ip_version      smallint NOT NULL CHECK (ip_version IN (4, 6)),
    revision_number bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX address_scopes_project ON address_scopes (project_id, id);
