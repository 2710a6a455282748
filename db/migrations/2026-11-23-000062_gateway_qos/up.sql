-- Gateways of routers may have QoS policies, as floating IPs may.
ALTER TABLE routers ADD COLUMN gateway_qos_policy_id uuid REFERENCES qos_policies;
CREATE INDEX routers_gateway_qos_policy ON routers (gateway_qos_policy_id) WHERE gateway_qos_policy_id IS NOT NULL;
