DROP TABLE cluster_keys, leader, feed, includes, subscriptions, entries, port_ips, ports, subnets,
    networks, host_state, hosts, revoked_tokens, role_assignments, users, projects, domains;
DROP SEQUENCE port_number, subnet_number;
DROP FUNCTION feed_epoch();
DROP FUNCTION stamp();
