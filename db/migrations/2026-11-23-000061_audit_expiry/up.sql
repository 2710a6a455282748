-- That audit events expire is said by a setting, and any role may set that. Now it counts only for the owner of the
-- log, who could change the triggers anyway; expire_audit_events runs as the owner, and is for whom he grants it.

CREATE OR REPLACE FUNCTION refuse_unless_expired() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN
    IF current_setting('mizar.audit_expires', true) IS DISTINCT FROM 'on' OR OLD.at > now() - interval '30 days'
        OR current_user::regrole::oid <> (SELECT c.relowner FROM pg_catalog.pg_class c WHERE c.oid = TG_RELID)
    THEN
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
    END IF;
    RETURN OLD;
END $$;

ALTER FUNCTION expire_audit_events(interval, bigint) SECURITY DEFINER SET search_path FROM CURRENT;
REVOKE EXECUTE ON FUNCTION expire_audit_events(interval, bigint) FROM PUBLIC;
