ALTER TABLE subnets DROP COLUMN subnetpool_id, DROP COLUMN service_types, DROP COLUMN dns_publish_fixed_ip;
DROP TABLE subnetpools;
