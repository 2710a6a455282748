-- A port carries one trunk. The index is also what deleting a port looks into.
ALTER TABLE trunks ADD CONSTRAINT trunks_port_id_key UNIQUE (port_id);
