-- Policies count from their first day, and are found by whom they are for.

UPDATE quotas SET used = 0 WHERE resource = 'rbac_policy';
INSERT INTO quotas AS q (project_id, resource, used)
    SELECT project_id, 'rbac_policy', count(*) FROM rbac_policies GROUP BY 1
    ON CONFLICT (project_id, resource) DO UPDATE SET used = excluded.used;

-- A tenant's list begins with what is shared with it.
CREATE INDEX rbac_policies_target ON rbac_policies (object_type, target_project, object_id);
