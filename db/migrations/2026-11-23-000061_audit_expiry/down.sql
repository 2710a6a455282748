GRANT EXECUTE ON FUNCTION expire_audit_events(interval, bigint) TO PUBLIC;
ALTER FUNCTION expire_audit_events(interval, bigint) SECURITY INVOKER RESET search_path;

CREATE OR REPLACE FUNCTION refuse_unless_expired() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN
    IF current_setting('mizar.audit_expires', true) IS DISTINCT FROM 'on' OR OLD.at > now() - interval '30 days' THEN
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
    END IF;
    RETURN OLD;
END $$;
