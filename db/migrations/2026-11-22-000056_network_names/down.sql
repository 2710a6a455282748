DROP INDEX hosts_az;
ALTER TABLE networks DROP COLUMN dns_domain, DROP COLUMN availability_zone_hints;
