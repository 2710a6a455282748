DROP TABLE auto_allocated_topologies;
