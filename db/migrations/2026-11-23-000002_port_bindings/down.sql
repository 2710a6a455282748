DROP VIEW port_bindings;
DROP TABLE inactive_bindings;
