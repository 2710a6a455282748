-- Ids of events sort by time: with the index of a project's ids nobody asks this one, and every command writes it.
DROP INDEX audit_events_project;
