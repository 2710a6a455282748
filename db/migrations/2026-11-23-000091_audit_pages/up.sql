-- A page of a project's events in their own order, which is what members see: without it every page sorts all
-- events of the project, and no quota bounds them.
CREATE INDEX CONCURRENTLY IF NOT EXISTS audit_events_project_page ON audit_events (project_id, id);
