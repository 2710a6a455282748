-- What the scheduler believes of hosts, and what operators say to it.

ALTER TABLE hosts
    ADD COLUMN lost_since timestamptz,     -- its loss was believed then; holds until it is heard of again
    ADD COLUMN gone_until timestamptz;     -- until then an operator vouches that it is gone if it is silent

-- One row: whether roles can be placed at present. Written by the leader when it changes.
CREATE TABLE placement_state (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    state       text NOT NULL DEFAULT 'normal' CHECK (state IN ('normal', 'frozen', 'nobody')),
    hosts       integer[] NOT NULL DEFAULT '{}',   -- frozen: whose leases ended together
    since       timestamptz NOT NULL DEFAULT now()
);
INSERT INTO placement_state DEFAULT VALUES;
