-- Names and zones of networks.

ALTER TABLE networks
    ADD COLUMN dns_domain text NOT NULL DEFAULT '',
    ADD COLUMN availability_zone_hints text[] NOT NULL DEFAULT '{}';

-- The zones that there are, read from one index entry each.
CREATE INDEX hosts_az ON hosts (az);
