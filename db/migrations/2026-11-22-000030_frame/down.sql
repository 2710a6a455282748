DROP TABLE address_scopes;
DROP TABLE audit_events;
DROP FUNCTION refuse_change();
DROP TABLE quotas;
ALTER TABLE networks ADD COLUMN shared boolean NOT NULL DEFAULT false;
UPDATE networks n SET shared = true FROM rbac_policies p
    WHERE p.object_type = 'network' AND p.object_id = n.id AND p.target_project IS NULL;
DROP TABLE rbac_policies;
