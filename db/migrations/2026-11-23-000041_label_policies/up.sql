-- Label policies: what Kubernetes calls a NetworkPolicy.

-- Projects that have any, or ports with labels.
CREATE TABLE label_projects (
    id              uuid PRIMARY KEY,                                        -- the project's
    number          integer GENERATED ALWAYS AS IDENTITY UNIQUE,
    generation      integer NOT NULL DEFAULT 1                               -- rises whenever less may pass than before
);

CREATE TABLE label_policies (
    id              uuid PRIMARY KEY,
    project_id      uuid NOT NULL,
    name            text NOT NULL COLLATE "C",
    namespace       text NOT NULL COLLATE "C",
    manifest        jsonb NOT NULL,                                          -- checked, without what only Kubernetes reads
    revision_number bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT label_policies_name UNIQUE (project_id, namespace, name)
);

-- The labels of a port, with a number that is part of its combination: group_sets.groups holds it, negative, before
-- the groups. By hash, because a btree takes no row of more than a third of a page.
CREATE SEQUENCE label_set_number AS integer;
CREATE TABLE label_sets (
    number          integer PRIMARY KEY DEFAULT nextval('label_set_number'),
    labels          text NOT NULL,             -- JSON in one form: {"project": number, "labels": {…}}
    created_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT label_sets_once EXCLUDE USING hash (labels WITH =)
);
ALTER SEQUENCE label_set_number OWNED BY label_sets.number;
