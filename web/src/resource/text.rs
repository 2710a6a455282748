//! Values with a form of their own, as text: what people write into forms, and how it is shown.

use super::Written;
use ipnet::Ipv4Net;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};

/// The name of an object, or the beginning of its id.
pub fn name_or_id(object: &Value) -> String {
    match object["name"].as_str() {
        Some(name) if !name.trim().is_empty() => name.to_owned(),
        _ => short(object["id"].as_str().unwrap_or_default()),
    }
}

/// The beginning of an id.
pub fn short(id: &str) -> String {
    id.chars().take(8).collect()
}

/// A scalar as text; nothing for null.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is not an address such as 10.0.0.5"))
}

fn ipv4(text: &str) -> Result<Ipv4Addr, String> {
    text.parse().map_err(|_| format!("`{text}` is not an IPv4 address such as 10.0.0.5"))
}

fn range(text: &str) -> Result<Ipv4Net, String> {
    text.parse().map_err(|_| format!("`{text}` is not a range such as 10.0.0.0/24"))
}

/// A range of addresses.
pub const CIDR: Written = Written { lines: false, show: plain, read: |text| Ok(json!(range(text)?.to_string())) };

/// Ranges of addresses.
pub const CIDRS: Written = Written { lines: true, ..CIDR };

/// An address of IPv4.
pub const IPV4: Written = Written { lines: false, show: plain, read: |text| Ok(json!(ipv4(text)?)) };

/// Addresses of IPv4.
pub const ADDRESSES: Written = Written { lines: true, ..IPV4 };

/// A gateway: an address, or `none`.
pub const GATEWAY: Written = Written {
    lines: false,
    show: |value| if value.is_null() { "none".into() } else { plain(value) },
    read: |text| if text.eq_ignore_ascii_case("none") { Ok(Value::Null) } else { Ok(json!(ipv4(text)?)) },
};

/// How the API is asked for ports with an address, or with a part of one.
pub fn with_address(text: &str) -> String {
    match text.parse::<IpAddr>() {
        Ok(address) => format!("ip_address={address}"),
        Err(_) => format!("ip_address_substr={text}"),
    }
}

/// Addresses of a port.
pub const FIXED_IPS: Written = Written {
    lines: true,
    show: |ip| plain(&ip["ip_address"]),
    read: |text| Ok(json!({"ip_address": address(text)?})),
};

/// Ranges from which addresses are given.
pub const POOLS: Written = Written {
    lines: true,
    show: |pool| format!("{} - {}", plain(&pool["start"]), plain(&pool["end"])),
    read: |text| {
        let (start, end) = text.split_once('-').ok_or_else(|| format!("`{text}`: write FIRST - LAST"))?;
        Ok(json!({"start": ipv4(start.trim())?, "end": ipv4(end.trim())?}))
    },
};

/// Routes.
pub const ROUTES: Written = Written {
    lines: true,
    show: |route| format!("{} via {}", plain(&route["destination"]), plain(&route["nexthop"])),
    read: |text| {
        let (destination, nexthop) =
            text.split_once(" via ").ok_or_else(|| format!("`{text}`: write RANGE via ADDRESS"))?;
        Ok(json!({"destination": range(destination.trim())?.to_string(), "nexthop": ipv4(nexthop.trim())?}))
    },
};

/// Addresses that a port may use beside its own.
pub const PAIRS: Written = Written {
    lines: true,
    show: |pair| match pair["mac_address"].as_str() {
        Some(mac) => format!("{} {mac}", plain(&pair["ip_address"])),
        None => plain(&pair["ip_address"]),
    },
    read: |text| {
        let mut words = text.split_whitespace();
        let ip = words.next().unwrap_or_default();
        if ip.parse::<Ipv4Addr>().is_err() {
            range(ip)?;
        }
        let mac = words.next();
        if words.next().is_some() {
            return Err(format!("`{text}`: write ADDRESS, or ADDRESS MAC"));
        }
        Ok(mac.map_or_else(|| json!({"ip_address": ip}), |mac| json!({"ip_address": ip, "mac_address": mac})))
    },
};

/// One item a line, as a cell shows a list.
pub fn joined(show: fn(&Value) -> String, value: &Value) -> String {
    let items: Vec<String> = value.as_array().into_iter().flatten().map(show).collect();
    items.join(", ")
}

/// What a rule of a security group lets through, in words.
pub fn rule(rule: &Value) -> String {
    let into = rule["direction"] == "ingress";
    let from = match (&rule["remote_ip_prefix"], &rule["remote_group_id"], &rule["remote_address_group_id"]) {
        (Value::String(prefix), ..) => prefix.clone(),
        // The name is known where it was asked for ([`crate::cell::complete`]).
        (_, Value::String(group), _) => {
            format!("group {}", rule["remote_group_name"].as_str().map_or_else(|| short(group), str::to_owned))
        }
        (.., Value::String(group)) => format!("address group {}", short(group)),
        _ => "anywhere".into(),
    };
    let (verb, side) = if into { ("in", "from") } else { ("out", "to") };
    format!("{} {verb}, {side} {from}", traffic(rule))
}

/// The name of a protocol that has one for everybody.
fn known_protocol(number: Option<u64>) -> Option<&'static str> {
    Some(match number? {
        1 => "ICMP",
        6 => "TCP",
        17 => "UDP",
        58 => "ICMPV6",
        132 => "SCTP",
        _ => return None,
    })
}

/// Protocol and ports of a rule, or of a line of what may pass.
pub fn traffic(rule: &Value) -> String {
    // What was judged is of the family that the data plane carries, and does not name it.
    let family = plain(&rule["ethertype"]);
    let protocol = match &rule["protocol"] {
        Value::Null => return format!("any {family}").trim_end().to_owned(),
        Value::Number(number) => {
            known_protocol(number.as_u64()).map_or_else(|| format!("protocol {number}"), str::to_owned)
        }
        other => plain(other).to_ascii_uppercase(),
    };
    let icmp = matches!(protocol.as_str(), "ICMP" | "1" | "IPV6-ICMP" | "ICMPV6" | "58");
    let more = match (rule["port_range_min"].as_i64(), rule["port_range_max"].as_i64()) {
        (Some(kind), None) if icmp => format!(" type {kind}"),
        (Some(kind), Some(code)) if icmp => format!(" type {kind} code {code}"),
        (Some(first), Some(last)) if first == last => format!(" {first}"),
        (Some(first), Some(last)) => format!(" {first}-{last}"),
        _ => String::new(),
    };
    let family = if matches!(family.as_str(), "IPv4" | "") { String::new() } else { format!(" ({family})") };
    format!("{protocol}{more}{family}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(written: &Written, text: &str) {
        let value = (written.read)(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!((written.show)(&value), text);
    }

    #[test]
    fn what_is_read_is_shown_so() {
        again(&CIDR, "10.0.0.0/24");
        again(&GATEWAY, "10.0.0.1");
        again(&GATEWAY, "none");
        again(&POOLS, "10.0.0.2 - 10.0.0.9");
        again(&ROUTES, "10.1.0.0/16 via 10.0.0.3");
        again(&PAIRS, "10.0.0.7 fa:16:3e:00:00:01");
        again(&PAIRS, "10.0.0.0/28");
        again(&FIXED_IPS, "10.0.0.5");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |written: &Written, text: &str| (written.read)(text).expect_err(text);
        assert_eq!(wrong(&CIDR, "10.0.0.0"), "`10.0.0.0` is not a range such as 10.0.0.0/24");
        assert_eq!(wrong(&POOLS, "10.0.0.2"), "`10.0.0.2`: write FIRST - LAST");
        assert_eq!(wrong(&ROUTES, "10.0.0.0/8 10.0.0.1"), "`10.0.0.0/8 10.0.0.1`: write RANGE via ADDRESS");
        assert!(wrong(&PAIRS, "10.0.0.1 a b").contains("ADDRESS MAC"));
        assert!(wrong(&GATEWAY, "nowhere").contains("`nowhere`"));
    }

    #[test]
    fn a_rule_is_said_in_words() {
        let said = |value: Value| rule(&value);
        let web = json!({"direction": "ingress", "ethertype": "IPv4", "protocol": "tcp", "port_range_min": 80,
            "port_range_max": 80, "remote_ip_prefix": "10.0.0.0/8"});
        assert_eq!(said(web), "TCP 80 in, from 10.0.0.0/8");
        assert_eq!(said(json!({"direction": "egress", "ethertype": "IPv6"})), "any IPv6 out, to anywhere");
        let ping = json!({"direction": "ingress", "ethertype": "IPv4", "protocol": "icmp", "port_range_min": 8,
            "remote_group_id": "0123456789ab"});
        assert_eq!(said(ping), "ICMP type 8 in, from group 01234567");
        let named = json!({"direction": "egress", "protocol": "udp", "remote_group_id": "0123456789ab",
            "remote_group_name": "web"});
        assert_eq!(said(named), "UDP out, to group web");
        let judged = |protocol: Value, first: Value, last: Value| {
            traffic(&json!({"protocol": protocol, "port_range_min": first, "port_range_max": last}))
        };
        assert_eq!(judged(json!(6), json!(80), json!(90)), "TCP 80-90");
        assert_eq!(judged(json!(1), json!(8), Value::Null), "ICMP type 8");
        assert_eq!(judged(json!(47), Value::Null, Value::Null), "protocol 47");
        assert_eq!(judged(Value::Null, Value::Null, Value::Null), "any");
    }
}
