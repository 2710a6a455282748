DROP INDEX ports_label_project;
ALTER TABLE label_sets DROP COLUMN project;
