-- Ports keep their labels, which nothing reads then, and are filtered by their security groups alone.
CREATE TEMPORARY TABLE unlabelled ON COMMIT DROP AS
    SELECT p.id, coalesce(array_agg(g.number ORDER BY g.number) FILTER (WHERE g.number IS NOT NULL), '{}') AS groups
    FROM ports p JOIN group_sets s ON s.number = p.group_set AND s.groups[1] < 0
    LEFT JOIN port_security_groups m ON m.port_id = p.id
    LEFT JOIN security_groups g ON g.id = m.security_group_id GROUP BY p.id;
INSERT INTO group_sets (groups) SELECT DISTINCT groups FROM unlabelled ON CONFLICT DO NOTHING;
UPDATE ports p SET group_set = s.number FROM unlabelled u JOIN group_sets s ON s.groups = u.groups WHERE p.id = u.id;
DELETE FROM entries WHERE scope >> 32 IN (11, 12, 13);
DELETE FROM includes WHERE scope >> 32 IN (11, 12) OR target >> 32 IN (11, 12, 13);
DELETE FROM group_sets WHERE groups[1] < 0;
DROP TABLE label_sets;
DROP TABLE label_policies;
DROP TABLE label_projects;
UPDATE feed SET history = '' WHERE EXISTS (SELECT FROM hosts);
