DROP INDEX application_credentials_project;
DROP INDEX role_assignments_role;
DROP INDEX role_assignments_domain;
DROP INDEX role_assignments_project;
DROP TRIGGER stamp ON revoked_tokens;
ALTER TABLE revoked_tokens DROP COLUMN xid, DROP COLUMN user_id;
