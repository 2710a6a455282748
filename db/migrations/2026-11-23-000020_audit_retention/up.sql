-- How long the audit log is kept is the operator's decision (`mizar-scheduler --audit-days`); for 30 days nobody
-- takes anything away from it, and later only what is told to expire goes. Rows are looked at one by one: whatever
-- statement deletes, a young event stays.

DROP TRIGGER append_only ON audit_events;
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE FUNCTION refuse_unless_expired() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN
    IF current_setting('mizar.audit_expires', true) IS DISTINCT FROM 'on' OR OLD.at > now() - interval '30 days' THEN
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER append_only_rows BEFORE DELETE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION refuse_unless_expired();

-- Takes away the oldest events, if they are older than that; returns how many.
CREATE FUNCTION expire_audit_events(kept interval, most bigint) RETURNS bigint LANGUAGE plpgsql AS
$$ DECLARE gone bigint;
BEGIN
    PERFORM set_config('mizar.audit_expires', 'on', true);
    DELETE FROM audit_events WHERE id IN
        (SELECT id FROM audit_events WHERE at < now() - kept ORDER BY at LIMIT most FOR UPDATE);
    GET DIAGNOSTICS gone = ROW_COUNT;
    PERFORM set_config('mizar.audit_expires', 'off', true);
    RETURN gone;
END $$;
