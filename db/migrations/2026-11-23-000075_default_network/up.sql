-- The external network that topologies are made with which nobody describes. There is one at most.
ALTER TABLE networks ADD COLUMN is_default boolean NOT NULL DEFAULT false;
CREATE UNIQUE INDEX networks_default ON networks (is_default) WHERE is_default;
