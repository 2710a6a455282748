ALTER TABLE trunks DROP CONSTRAINT trunks_port_id_key;
