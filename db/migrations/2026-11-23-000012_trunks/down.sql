DROP TABLE trunk_ports;
DROP TABLE trunks;
