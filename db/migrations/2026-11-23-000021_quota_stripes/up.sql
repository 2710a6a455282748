-- The counter of a project that has a limit makes its creates take turns for the length of a commit: so no limit is
-- passed by one. Where there is no limit there is nothing to take turns for, and what is used is counted in
-- stripes: each connection has one of its own, mostly. What a project uses is its counter and its stripes together.
-- Who gives or takes a limit locks this table against writers, so that all of them go by the same.
CREATE TABLE quota_stripes (
    project_id      uuid NOT NULL,
    resource        text NOT NULL,
    stripe          smallint NOT NULL,
    used            bigint NOT NULL,           -- may be negative: others made what is deleted here
    PRIMARY KEY (project_id, resource, stripe)
) WITH (fillfactor = 50);
