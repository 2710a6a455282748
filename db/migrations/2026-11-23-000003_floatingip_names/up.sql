-- The names of floating IPs, given when they are made.
ALTER TABLE floatingips
    ADD COLUMN dns_name text NOT NULL DEFAULT '',
    ADD COLUMN dns_domain text NOT NULL DEFAULT '';
