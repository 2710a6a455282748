DROP TABLE floatingips;
DROP TABLE router_interfaces;
DROP TABLE routers;
ALTER TABLE networks ADD COLUMN external boolean NOT NULL DEFAULT false;
UPDATE networks n SET external = true WHERE EXISTS (
    SELECT FROM rbac_policies p WHERE p.object_type = 'network' AND p.object_id = n.id AND p.action = 'access_as_external');
