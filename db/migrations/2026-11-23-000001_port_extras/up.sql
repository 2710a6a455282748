-- What a port holds that no query filters, sorts or joins by: extra_dhcp_opts, dns_name, dns_domain,
-- propagate_uplink_status, device_profile, hints, numa_affinity_policy, data_plane_status, trusted.
--
-- One document, not nine columns: nearly every port has the default of all of them and stores
-- `{}`. And the table stays within 32 columns; for more, diesel would have to be compiled with
-- implementations for 64, which everything that depends on it pays for.
-- mizar_domain::port_extras is what it holds; unknown names in it are refused when it is read.
ALTER TABLE ports ADD COLUMN extras jsonb NOT NULL DEFAULT '{}';
