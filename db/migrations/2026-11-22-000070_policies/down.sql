DROP INDEX rbac_policies_target;
