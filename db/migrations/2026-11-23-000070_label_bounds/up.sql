-- How many labels the ports of a project have: a project may have so many.
ALTER TABLE label_sets ADD COLUMN project integer NOT NULL GENERATED ALWAYS AS ((labels::jsonb->>'project')::integer) STORED;
CREATE INDEX label_sets_project ON label_sets (project);
