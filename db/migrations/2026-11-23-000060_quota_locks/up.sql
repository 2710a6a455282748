-- Who gives a project a limit, or takes one away, waits for those who count for that project at this moment, and keeps
-- others from it until the commit; those of other projects go on. It was a lock on the whole table of stripes.
--
-- The first key of these locks stands in `db/src/quotas.rs` too. Both functions are volatile on purpose: each
-- statement of such a function reads what is committed then, and not what was when the statement that calls it began,
-- which may have waited since. Projects whose ids have one hash wait for each other, and are none the worse for it.

-- A project's own limit, which stays as it is until the end of the transaction; null: it has none.
CREATE FUNCTION own_limit(project uuid, what text) RETURNS bigint LANGUAGE plpgsql VOLATILE AS
$$ BEGIN
    PERFORM pg_advisory_xact_lock_shared(1836711938, uuid_hash(project));
    RETURN (SELECT q.max FROM quotas q WHERE q.project_id = project AND q.resource = what);
END $$;

-- What a project uses that was counted while it had no limit.
CREATE FUNCTION used_in_stripes(project uuid, what text) RETURNS bigint LANGUAGE plpgsql VOLATILE AS
$$ BEGIN
    RETURN (SELECT COALESCE(sum(s.used), 0)::bigint FROM quota_stripes s
        WHERE s.project_id = project AND s.resource = what);
END $$;
