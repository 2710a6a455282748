//! From the API's refusals to the place in a form where they belong, and to what can be done.
//!
//! The names of errors are part of the API (clients branch on them), so they are what counts here; the
//! message is read only for the name of an attribute in Neutron's own sentence, `Invalid input for X.`

use crate::api::Refused;

/// Names of errors and the attribute that each is about.
const ABOUT: &[(&str, &str)] = &[
    ("GatewayIpInUse", "gateway_ip"),
    ("GatewayConflictWithAllocationPools", "gateway_ip"),
    ("InvalidAllocationPool", "allocation_pools"),
    ("OutOfBoundsAllocationPool", "allocation_pools"),
    ("OverlappingAllocationPools", "allocation_pools"),
    ("DNSNameServersExhausted", "dns_nameservers"),
    ("HostRoutesExhausted", "host_routes"),
    ("SubnetAllocationError", "cidr"),
    ("NetworkSubnetPoolAffinityError", "subnetpool_id"),
    ("MinPrefixSubnetAllocationError", "prefixlen"),
    ("MaxPrefixSubnetAllocationError", "prefixlen"),
    ("SubnetPoolQuotaExceeded", "subnetpool_id"),
    ("EmptySubnetPoolPrefixList", "prefixes"),
    ("PrefixVersionMismatch", "prefixes"),
    ("IllegalSubnetPoolPrefixUpdate", "prefixes"),
    ("IllegalSubnetPoolPrefixBounds", "default_prefixlen"),
    ("InvalidIpForSubnet", "fixed_ips"),
    ("InvalidIpForNetwork", "fixed_ips"),
    ("IpAddressInUse", "fixed_ips"),
    ("IpAddressGenerationFailure", "network_id"),
    ("IpAddressGenerationFailureNoMatchingSubnet", "network_id"),
    ("MacAddressInUse", "mac_address"),
    ("AllowedAddressPairExhausted", "allowed_address_pairs"),
    ("DuplicateAddressPairInRequest", "allowed_address_pairs"),
    ("AddressPairAndPortSecurityRequired", "port_security_enabled"),
    ("PortSecurityAndIPRequiredForSecurityGroups", "port_security_enabled"),
    ("PortSecurityPortHasSecurityGroup", "port_security_enabled"),
    ("SecurityGroupInUse", "stateful"),
    ("SecurityGroupNotFound", "security_groups"),
    ("NetworkNotFound", "network_id"),
    ("PortNotFound", "port_id"),
    ("MtuInUse", "mtu"),
    ("SecurityGroupRuleInvalidProtocol", "protocol"),
    ("SecurityGroupRuleInvalidEtherType", "ethertype"),
    ("SecurityGroupEthertypeConflictWithProtocol", "ethertype"),
    ("SecurityGroupRuleParameterConflict", "remote_ip_prefix"),
    ("InvalidCIDR", "remote_ip_prefix"),
    ("SecurityGroupProtocolRequiredWithPorts", "protocol"),
    ("SecurityGroupInvalidProtocolForPort", "port_range_min"),
    ("SecurityGroupInvalidPortValue", "port_range_min"),
    ("SecurityGroupInvalidPortRange", "port_range_min"),
    ("SecurityGroupInvalidIcmpValue", "port_range_min"),
    ("SecurityGroupMissingIcmpType", "port_range_min"),
    ("SecurityGroupMultipleRemoteEntites", "remote_group_id"),
    ("ExternalGatewayForFloatingIPNotFound", "port_id"),
    ("FloatingIPPortAlreadyAssociated", "port_id"),
];

/// Sentences of errors that share the name `InvalidInput`, and the attribute that each is about.
const SENTENCES: &[(&str, &str)] = &[
    ("overlaps with another subnet", "cidr"),
    ("Gateway is not valid on subnet", "gateway_ip"),
    ("incompatible with DHCP", "enable_dhcp"),
];

/// The attribute that a refusal is about, if it says so.
pub fn attribute(refused: &Refused) -> Option<&str> {
    let named = refused.message.split_once("Invalid input for ").map(|(_, rest)| rest);
    let named = named.and_then(|rest| rest.split(['.', ':', ' ']).next()).filter(|name| *name != "operation");
    let by_sentence = || SENTENCES.iter().find(|(part, _)| refused.message.contains(part)).map(|(_, of)| *of);
    let by_name = || ABOUT.iter().find(|(kind, _)| *kind == refused.kind).map(|(_, of)| *of);
    named.or_else(by_sentence).or_else(by_name)
}

/// What can be done about a refusal, where more can be said than the refusal says.
pub fn what_to_do(refused: &Refused) -> Option<&'static str> {
    Some(match refused.kind.as_str() {
        "OverQuota" => {
            "Delete what is not needed any more, or ask an administrator for a larger quota. \
                        The overview shows what is used."
        }
        "NetworkInUse" => "Delete its ports first.",
        "SubnetInUse" => "Delete the ports that have addresses of it, or remove it from its routers, first.",
        "RouterInUse" => "Remove its subnets first.",
        "SecurityGroupInUse" => "Take it off the ports that have it first.",
        "RevisionNumberConstraintFailed" => {
            "Somebody changed it since this page was opened. Cancel, look at how it is now, and change it again."
        }
        "IpAddressInUse" => "Choose another address, or leave it empty to get any free one.",
        "IpAddressGenerationFailure" => "Its subnets have no free address: make another subnet, or delete ports.",
        "SubnetAllocationError" => "The pool has no such range left: choose another, or a longer prefix.",
        "SecurityGroupRuleExists" => "The group lets that through already.",
        "PolicyNotAuthorized" => "Your role in this project does not allow it. Ask an administrator of the project.",
        "OverLimit" => "Wait a moment and send it again.",
        "InvalidInput" if refused.message.contains("overlaps with another subnet") => {
            "Choose a range that no other subnet of the network has; the wizard suggests one."
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: &str, message: &str) -> Refused {
        Refused { status: 400, kind: kind.into(), message: message.into() }
    }

    #[test]
    fn a_refusal_finds_its_field() {
        let of = |kind, message| attribute(&refused(kind, message)).map(str::to_owned);
        assert_eq!(of("HTTPBadRequest", "Invalid input for cidr. Reason: no.").as_deref(), Some("cidr"));
        assert_eq!(of("InvalidInput", "Invalid input for mtu: 9 is smaller than 68").as_deref(), Some("mtu"));
        let overlap = "Invalid input for operation: Requested subnet with cidr: x overlaps with another subnet.";
        assert_eq!(of("InvalidInput", overlap).as_deref(), Some("cidr"));
        assert_eq!(of("IpAddressInUse", "Unable").as_deref(), Some("fixed_ips"));
        assert_eq!(of("OverQuota", "Quota exceeded").as_deref(), None);
    }

    #[test]
    fn what_can_be_helped_has_a_help() {
        assert!(what_to_do(&refused("OverQuota", "")).is_some_and(|help| help.contains("larger quota")));
        assert!(what_to_do(&refused("Unheard", "")).is_none());
    }
}
