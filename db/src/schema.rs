//! The tables of `migrations/`, as diesel sees them. A test compares the two.

use diesel::{allow_tables_to_appear_in_same_query, joinable, table};

table! {
    domains (id) {
        id -> Text,
        name -> Text,
        enabled -> Bool,
        description -> Text,
    }
}

table! {
    projects (id) {
        id -> Uuid,
        domain_id -> Text,
        name -> Text,
        description -> Text,
        enabled -> Bool,
        tags -> Array<Text>,
    }
}

table! {
    users (id) {
        id -> Uuid,
        domain_id -> Text,
        name -> Text,
        password_hash -> Nullable<Text>,
        enabled -> Bool,
        default_project_id -> Nullable<Uuid>,
        email -> Text,
        description -> Text,
    }
}

table! {
    // The key of the database is `id`; other tables refer to the name.
    roles (name) {
        id -> Uuid,
        name -> Text,
        description -> Text,
        builtin -> Bool,
    }
}

table! {
    // No primary key in the database: project and domain are null for a role on the whole system.
    role_assignments (user_id, role) {
        user_id -> Uuid,
        project_id -> Nullable<Uuid>,
        role -> Text,
        domain_id -> Nullable<Text>,
    }
}

table! {
    application_credentials (id) {
        id -> Uuid,
        user_id -> Uuid,
        project_id -> Uuid,
        name -> Text,
        description -> Text,
        secret_hash -> Text,
        unrestricted -> Bool,
        expires_at -> Nullable<Timestamptz>,
    }
}

table! {
    application_credential_roles (credential_id, role) {
        credential_id -> Uuid,
        role -> Text,
    }
}

table! {
    revoked_tokens (audit_id) {
        audit_id -> Text,
        issued_before -> Nullable<Timestamptz>,
        expires_at -> Timestamptz,
        user_id -> Nullable<Uuid>,
        xid -> Int8,
    }
}

table! {
    hosts (id) {
        id -> Uuid,
        number -> Int4,
        name -> Text,
        underlay -> Inet,
        mtu -> Int4,
        az -> Text,
        rack -> Text,
        transit -> Text,
        weight -> Int4,
        transit_hook -> Text,
        version -> Text,
        abi -> Int4,
        shrink_until -> Nullable<Timestamptz>,
        lost_since -> Nullable<Timestamptz>,
        gone_until -> Nullable<Timestamptz>,
        description -> Text,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        revision_number -> Int8,
    }
}

table! {
    host_state (host) {
        host -> Int4,
        boot_id -> Text,
        epoch -> Nullable<Text>,
        cursor -> Nullable<Text>,
        failures -> Jsonb,
        seen_at -> Timestamptz,
        started_at -> Timestamptz,
    }
}

table! {
    networks (id) {
        id -> Uuid,
        project_id -> Uuid,
        name -> Text,
        description -> Text,
        admin_state_up -> Bool,
        status -> Text,
        vni -> Int4,
        mtu -> Int4,
        port_security_enabled -> Bool,
        dns_domain -> Text,
        availability_zone_hints -> Array<Text>,
        qos_policy_id -> Nullable<Uuid>,
        tags -> Array<Text>,
        revision_number -> Int8,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        is_default -> Bool,
    }
}

table! {
    subnets (id) {
        id -> Uuid,
        project_id -> Uuid,
        network_id -> Uuid,
        number -> Int4,
        name -> Text,
        description -> Text,
        ip_version -> Int2,
        cidr -> Cidr,
        gateway_ip -> Nullable<Inet>,
        enable_dhcp -> Bool,
        dns_nameservers -> Array<Inet>,
        host_routes -> Jsonb,
        allocation_pools -> Jsonb,
        subnetpool_id -> Nullable<Uuid>,
        service_types -> Array<Text>,
        dns_publish_fixed_ip -> Bool,
        tags -> Array<Text>,
        revision_number -> Int8,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

table! {
    ports (id) {
        id -> Uuid,
        project_id -> Uuid,
        network_id -> Uuid,
        number -> Int4,
        name -> Text,
        description -> Text,
        mac -> Macaddr,
        admin_state_up -> Bool,
        device_id -> Text,
        device_owner -> Text,
        port_security_enabled -> Bool,
        address_pairs -> Jsonb,
        status -> Text,
        status_reason -> Text,
        host -> Nullable<Int4>,
        generation -> Int4,
        moved_from -> Nullable<Int4>,
        moved_at -> Nullable<Timestamptz>,
        wired_generation -> Nullable<Int4>,
        wired_at -> Nullable<Timestamptz>,
        host_name -> Text,
        vnic_type -> Text,
        vif_type -> Text,
        vif_details -> Jsonb,
        profile -> Jsonb,
        group_set -> Nullable<Int4>,
        extras -> Jsonb,
        tags -> Array<Text>,
        revision_number -> Int8,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

table! {
    port_ips (subnet_id, address) {
        subnet_id -> Uuid,
        address -> Inet,
        network_id -> Uuid,
        port_id -> Uuid,
        position -> Int2,
        slot -> Int2,
    }
}

table! {
    inactive_bindings (port_id, host) {
        port_id -> Uuid,
        host -> Text,
        vnic_type -> Text,
        vif_type -> Text,
        vif_details -> Jsonb,
        profile -> Jsonb,
    }
}

table! {
    // A view of ports and their inactive bindings.
    port_bindings (id) {
        id -> Uuid,
        port_id -> Uuid,
        project_id -> Uuid,
        host -> Text,
        vnic_type -> Text,
        vif_type -> Text,
        vif_details -> Jsonb,
        profile -> Jsonb,
        status -> Text,
        revision_number -> Int8,
    }
}

table! {
    port_security_groups (port_id, security_group_id) {
        port_id -> Uuid,
        security_group_id -> Uuid,
    }
}

table! {
    port_qos_policies (port_id) {
        port_id -> Uuid,
        qos_policy_id -> Uuid,
    }
}

table! {
    // A view of all kinds of rules. Of a view PostgreSQL does not say what may be null: direction
    // and burst may.
    qos_rules (id) {
        qos_policy_id -> Uuid,
        id -> Uuid,
        kind -> Text,
        direction -> Text,
        amount -> Int4,
        burst -> Int4,
        created_at -> Timestamptz,
    }
}

table! {
    trunk_ports (port_id) {
        port_id -> Uuid,
        trunk_id -> Uuid,
    }
}

table! {
    // The other columns stand beside the rules of the resource, in the API.
    security_groups (id) {
        id -> Uuid,
        name -> Text,
        number -> Int4,
        generation -> Int4,
        stateful -> Bool,
    }
}

table! {
    // The other columns stand beside the rules of the resource, in the API.
    address_groups (id) {
        id -> Uuid,
        number -> Int4,
    }
}

table! {
    // The other columns stand beside the rules of the resource, in the API.
    label_policies (id) {
        id -> Uuid,
    }
}

table! {
    label_projects (id) {
        id -> Uuid,
        number -> Int4,
        generation -> Int4,
    }
}

table! {
    label_sets (number) {
        number -> Int4,
        labels -> Text,
        created_at -> Timestamptz,
        project -> Int4,
    }
}

table! {
    group_sets (number) {
        number -> Int4,
        groups -> Array<Int4>,
        created_at -> Timestamptz,
        unused_since -> Nullable<Timestamptz>,
    }
}

table! {
    entries (scope, slot, kind, key) {
        scope -> Int8,
        slot -> Int2,
        kind -> Int2,
        key -> Bytea,
        body -> Bytea,
        deleted -> Bool,
        changed_at -> Timestamptz,
        xid -> Int8,
    }
}

table! {
    subscriptions (host, scope, lo, role) {
        host -> Int4,
        scope -> Int8,
        lo -> Int2,
        hi -> Int2,
        role -> Int2,
        state -> Int2,
        deleted -> Bool,
        changed_at -> Timestamptz,
        xid -> Int8,
    }
}

table! {
    includes (scope, slot, target) {
        scope -> Int8,
        slot -> Int2,
        target -> Int8,
        deleted -> Bool,
        last_used -> Timestamptz,
        xid -> Int8,
    }
}

table! {
    feed (one) {
        one -> Bool,
        epoch -> Uuid,
        horizon -> Int8,
        history -> Text,
    }
}

table! {
    leader (one) {
        one -> Bool,
        fence -> Int8,
    }
}

table! {
    placement_state (one) {
        one -> Bool,
        state -> Text,
        hosts -> Array<Int4>,
        since -> Timestamptz,
    }
}

table! {
    cluster_keys (id) {
        id -> Int2,
        key -> Bytea,
        signs -> Bool,
        created_at -> Timestamptz,
    }
}

table! {
    rbac_policies (id) {
        id -> Uuid,
        project_id -> Uuid,
        object_type -> Text,
        object_id -> Uuid,
        target_project -> Nullable<Uuid>,
        action -> Text,
        revision_number -> Int8,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

table! {
    auto_allocated_topologies (project_id) {
        project_id -> Uuid,
        network_id -> Uuid,
        router_id -> Nullable<Uuid>,
    }
}

table! {
    router_interfaces (port_id) {
        port_id -> Uuid,
        router_id -> Uuid,
    }
}

table! {
    quotas (project_id, resource) {
        project_id -> Uuid,
        resource -> Text,
        used -> Int8,
        max -> Nullable<Int8>,
    }
}

table! {
    quota_stripes (project_id, resource, stripe) {
        project_id -> Uuid,
        resource -> Text,
        stripe -> Int2,
        used -> Int8,
    }
}

table! {
    host_questions (id) {
        id -> Uuid,
        host -> Int4,
        question -> Text,
        answer -> Nullable<Text>,
        asked_at -> Timestamptz,
        until -> Timestamptz,
    }
}

joinable!(projects -> domains (domain_id));
joinable!(users -> domains (domain_id));
joinable!(role_assignments -> users (user_id));
joinable!(role_assignments -> projects (project_id));
joinable!(role_assignments -> roles (role));
joinable!(application_credential_roles -> roles (role));
joinable!(subnets -> networks (network_id));
joinable!(ports -> networks (network_id));
joinable!(port_ips -> ports (port_id));
joinable!(port_ips -> subnets (subnet_id));
joinable!(port_security_groups -> security_groups (security_group_id));

allow_tables_to_appear_in_same_query!(
    domains,
    projects,
    users,
    roles,
    role_assignments,
    application_credentials,
    application_credential_roles,
    revoked_tokens,
    hosts,
    host_state,
    networks,
    subnets,
    ports,
    port_ips,
    port_security_groups,
    port_qos_policies,
    trunk_ports,
    security_groups,
    address_groups,
    label_policies,
    label_projects,
    label_sets,
    group_sets,
    entries,
    subscriptions,
    includes,
    feed,
    leader,
    placement_state,
    cluster_keys,
    rbac_policies,
    router_interfaces,
    auto_allocated_topologies,
    quotas,
);
