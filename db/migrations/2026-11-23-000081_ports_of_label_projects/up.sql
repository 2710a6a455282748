-- The ports with labels of one project, which the janitor looks for while it holds the project's row. Beside whoever makes
-- ports, as there may be millions. Databases of before have it already, from the migration of label bounds.
CREATE INDEX CONCURRENTLY IF NOT EXISTS ports_label_project
    ON ports (((extras->'label_set'->>'project')::integer)) WHERE extras ? 'label_set';
