CREATE INDEX audit_events_project ON audit_events (project_id, at);
