-- What was made for projects that asked for a network and described none.
CREATE TABLE auto_allocated_topologies (
    project_id uuid PRIMARY KEY,
    network_id uuid NOT NULL UNIQUE REFERENCES networks ON DELETE CASCADE,
    router_id  uuid UNIQUE REFERENCES routers ON DELETE SET NULL
);
