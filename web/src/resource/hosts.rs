//! Hosts, for operators.

use super::text::{name_or_id, plain};
use super::{Column, Extra, Field, Filter, Kind, Part, Resource, Shape, Verbs};
use serde_json::Value;

const TRANSIT: &[(&str, &str)] = &[
    ("yes", "yes: it bounces and divides for others"),
    ("no", "no: only its own ports"),
    ("prefer", "prefer: before the others"),
];

/// How long it has been silent.
pub fn heard(host: &Value) -> String {
    match host["silent_s"].as_i64() {
        Some(seconds) => format!("{seconds} s ago"),
        None => "never".into(),
    }
}

/// How far it lags behind what is wanted of it.
pub fn behind(host: &Value) -> String {
    match (host["pending_entries"].as_i64(), host["oldest_pending_s"].as_i64()) {
        (None, _) => "not known".into(),
        (Some(0), _) => "nothing".into(),
        (Some(entries), None) => format!("{entries} entries"),
        (Some(entries), Some(seconds)) => format!("{entries} entries, {seconds} s"),
    }
}

/// How many entries it could not apply, and why the first of them; which they are is further down on its page.
pub fn failures(failures: &Value) -> String {
    let failures = failures.as_array().map(Vec::as_slice).unwrap_or_default();
    let reason = |failure: &Value| plain(&failure["reason"]);
    match failures {
        [] => "none".into(),
        [one] => format!("1 entry not applied: {}", reason(one)),
        [first, rest @ ..] if rest.iter().all(|one| one["reason"] == first["reason"]) => {
            format!("{} entries not applied: {}", failures.len(), reason(first))
        }
        [first, ..] => format!("{} entries not applied, the first: {}", failures.len(), reason(first)),
    }
}

/// Hosts.
pub static HOSTS: Resource = Resource {
    path: "hosts",
    api: "/v2.0/mizar/hosts",
    singular: "host",
    plural: "hosts",
    one: "host",
    many: "Hosts",
    about: "A host carries ports, and transit roles for others. It appears when its agent registers.",
    title: name_or_id,
    columns: &[
        Column::new("Name", "name", Shape::Title).sorted(),
        Column::new("Lease", "alive", Shape::Status),
        Column::new("Heard of", "seen_at", Shape::Whole(heard)).sorted(),
        Column::new("Availability zone", "az", Shape::Text).sorted(),
        Column::new("Rack", "rack", Shape::Text).sorted(),
        Column::new("Transit", "transit", Shape::Text),
        Column::new("Ports", "ports", Shape::Text),
        Column::new("Behind by", "pending_entries", Shape::Whole(behind)),
        Column::new("Failures", "failures", Shape::By(failures)),
        Column::new("Version", "version", Shape::Code),
    ],
    // What they are called often says where they stand.
    order: Some(("name", "asc")),
    facts: &[
        Column::new("Id", "id", Shape::Code),
        Column::new("Lease", "alive", Shape::Status),
        Column::new("Heard of", "silent_s", Shape::Whole(heard)),
        Column::new("Lost since", "lost_since", Shape::Time),
        Column::new("Availability zone", "az", Shape::Text),
        Column::new("Rack", "rack", Shape::Text),
        Column::new("Underlay address", "underlay", Shape::Code),
        Column::new("MTU", "mtu", Shape::Text),
        Column::new("Transit", "transit", Shape::Text),
        Column::new("Weight", "weight", Shape::Text),
        Column::new("Where transit runs", "transit_hook", Shape::Code),
        Column::new("Ports", "ports", Shape::Text),
        Column::new("Behind by", "pending_entries", Shape::Whole(behind)),
        Column::new("Failures", "failures", Shape::By(failures)),
        Column::new("Version", "version", Shape::Code),
        Column::new("ABI", "abi", Shape::By(plain)),
        Column::new("Registered", "created_at", Shape::Time),
    ],
    filters: &[
        Filter::text("name", "Name"),
        Filter::text("az", "Availability zone"),
        Filter::text("rack", "Rack"),
        Filter::choice("transit", "Transit", &["yes", "no", "prefer"]),
        Filter::choice("alive", "Heard of within the lease", &["true", "false"]),
        Filter::choice("behind_s", "Behind by seconds, or more", &["1", "10", "60", "600"]),
        Filter::choice("failing", "Could not apply something", &["true", "false"]),
    ],
    fields: &[
        Field::new("transit", "Transit", Kind::Choice(TRANSIT)).later(),
        Field::new("weight", "Weight", Kind::Number(1, 1_000)).hint("Its share of roles beside the others'.").later(),
    ],
    parts: &[Part { of: "ports", by: "binding:host_id", with: "name" }],
    extra: Extra::Host,
    dependents: &[],
    doors: &[("drops", "What is dropped")],
    verbs: Verbs { edit: true, ..Verbs::SHOWN },
};

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_not_applied_says_why() {
        let of = |reasons: &[&str]| {
            failures(&reasons.iter().map(|reason| json!({"key": "0a", "reason": reason})).collect::<Value>())
        };
        assert_eq!(of(&[]), "none");
        assert_eq!(of(&["no room"]), "1 entry not applied: no room");
        assert_eq!(of(&["no room", "no room"]), "2 entries not applied: no room");
        assert_eq!(of(&["no room", "unknown kind"]), "2 entries not applied, the first: no room");
    }
}
