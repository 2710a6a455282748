-- How many labels the ports of a project have: a project may have so many.
ALTER TABLE label_sets ADD COLUMN project integer NOT NULL GENERATED ALWAYS AS ((labels::jsonb->>'project')::integer) STORED;
CREATE INDEX label_sets_project ON label_sets (project);

-- The ports with labels of one project, which the janitor looks for while it holds the project's row.
CREATE INDEX ports_label_project ON ports (((extras->'label_set'->>'project')::integer)) WHERE extras ? 'label_set';
