-- What Neutron's agents say beside what hosts do.

ALTER TABLE hosts
    -- Agents are sorted by their host: by this collation, as everything that lists sort by.
    ALTER COLUMN name TYPE text COLLATE "C",
    ADD COLUMN description text NOT NULL COLLATE "C" DEFAULT '';   -- an operator's words

ALTER TABLE host_state
    ADD COLUMN started_at timestamptz NOT NULL DEFAULT now();      -- when this boot registered first
