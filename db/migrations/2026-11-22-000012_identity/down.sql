DROP TABLE application_credential_roles, application_credentials;
DELETE FROM role_assignments WHERE domain_id IS NOT NULL OR role NOT IN ('admin', 'member', 'reader', 'service');
ALTER TABLE role_assignments
    DROP COLUMN domain_id,
    DROP CONSTRAINT role_assignments_role_fkey,
    ADD CONSTRAINT role_assignments_role_check CHECK (role IN ('admin', 'member', 'reader', 'service')),
    ADD UNIQUE NULLS NOT DISTINCT (user_id, project_id, role);
DROP TABLE roles;
DELETE FROM users WHERE password_hash IS NULL;
ALTER TABLE users ALTER COLUMN password_hash SET NOT NULL, DROP COLUMN email, DROP COLUMN description;
ALTER TABLE projects DROP COLUMN tags;
ALTER TABLE domains DROP COLUMN description;
