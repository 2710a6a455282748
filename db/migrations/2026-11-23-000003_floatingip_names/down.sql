ALTER TABLE floatingips DROP COLUMN dns_name, DROP COLUMN dns_domain;
