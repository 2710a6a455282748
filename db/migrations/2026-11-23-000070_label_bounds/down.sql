ALTER TABLE label_sets DROP COLUMN project;
