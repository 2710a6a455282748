-- Replicas read only those revocations that they have not seen: by the writer's transaction, as
-- the feed does, for a sequence or a clock would skip what commits late.
ALTER TABLE revoked_tokens
    ADD COLUMN user_id uuid,                         -- whose, where it is a single token
    ADD COLUMN xid bigint NOT NULL DEFAULT 0;
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON revoked_tokens FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE INDEX revoked_tokens_xid ON revoked_tokens (xid);
CREATE INDEX revoked_tokens_expires ON revoked_tokens (expires_at);
CREATE INDEX revoked_tokens_user ON revoked_tokens (user_id) WHERE user_id IS NOT NULL;

-- What a deleted project, domain or role takes with it is found without reading the whole table.
CREATE INDEX role_assignments_project ON role_assignments (project_id) WHERE project_id IS NOT NULL;
CREATE INDEX role_assignments_domain ON role_assignments (domain_id) WHERE domain_id IS NOT NULL;
CREATE INDEX role_assignments_role ON role_assignments (role);
CREATE INDEX application_credentials_project ON application_credentials (project_id);
