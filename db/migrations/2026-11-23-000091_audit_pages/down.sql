DROP INDEX audit_events_project_page;
