ALTER TABLE routers DROP COLUMN gateway_qos_policy_id;
