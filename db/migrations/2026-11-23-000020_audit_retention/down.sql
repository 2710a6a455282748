DROP FUNCTION expire_audit_events(interval, bigint);
DROP TRIGGER append_only_rows ON audit_events;
DROP FUNCTION refuse_unless_expired();
DROP TRIGGER append_only ON audit_events;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
