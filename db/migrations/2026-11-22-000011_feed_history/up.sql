-- Which database stamped the rows of the feed. Transaction ids of another one mean nothing, also where a dump was
-- restored into the same database, which makes the table anew. A physical copy goes on counting, and so keeps it.
CREATE FUNCTION feed_history() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT concat_ws('-', c.system_identifier, d.oid, 'entries'::regclass::oid)
    FROM pg_control_system() c, pg_database d WHERE d.datname = current_database() $$;

ALTER TABLE feed ADD COLUMN history text NOT NULL DEFAULT '';
UPDATE feed SET history = feed_history();
