INSERT INTO quotas AS q (project_id, resource, used)
    SELECT project_id, resource, sum(used)::bigint FROM quota_stripes GROUP BY 1, 2
    ON CONFLICT (project_id, resource) DO UPDATE SET used = q.used + excluded.used;
DROP TABLE quota_stripes;
