DROP TABLE default_security_group_rules, port_security_groups, security_group_rules, security_groups, address_groups;
