//! What may pass to and from a port, and who may reach it. The API judges, by what really decides: the rules
//! of the security groups or, where label policies isolate the port, these alone. Here it is said in words.

use crate::api::{CallError, Query, object};
use crate::cell::Link;
use crate::fault::Fault;
use crate::page::{Frame, answer};
use crate::resource::declared;
use crate::resource::text::{plain, short, traffic};
use crate::signed::Signed;
use actix_web::http::StatusCode;
use actix_web::web::Path;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use serde_json::Value;

/// A line of what may pass: in words, and what lets it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Passing {
    traffic: String,
    /// From or to where.
    side: String,
    /// By which groups; a label policy has no page to lead to.
    by: Vec<Link>,
}

/// A direction.
#[derive(Debug)]
struct Way {
    title: &'static str,
    /// What the other side is.
    side: &'static str,
    /// The label policies that decide alone.
    policies: Vec<String>,
    lines: Vec<Passing>,
}

/// What may pass.
#[derive(Debug, Template)]
#[template(path = "effective.html")]
pub struct Effective {
    /// Only its own project is told.
    told: bool,
    filtered: bool,
    /// Answers pass without a rule.
    stateful: bool,
    /// Groups of the port that this user may not see.
    hidden: u64,
    ways: Vec<Way>,
}

/// What may pass to and from a port.
pub async fn effective(signed: &Signed, port: &Value) -> Result<Effective, Fault> {
    let at = format!("{}/effective-rules", declared("ports").api_of(&plain(&port["id"])));
    match signed.calls.one(&at, "effective_rules").await {
        Ok(rules) => Ok(Effective::of(&rules)),
        Err(CallError::Refused(refused)) if refused.status == 403 => {
            Ok(Effective { told: false, filtered: true, stateful: true, hidden: 0, ways: Vec::new() })
        }
        Err(error) => Err(error.into()),
    }
}

impl Effective {
    fn of(rules: &Value) -> Self {
        let way = |title, side, direction| Way {
            title,
            side,
            policies: each(&rules[direction]["label_policies"]).map(name_of_policy).collect(),
            lines: lines(&rules[direction], if direction == "ingress" { "from" } else { "to" }),
        };
        Self {
            told: true,
            filtered: rules["filtered"].as_bool().unwrap_or(true),
            stateful: rules["stateful"].as_bool().unwrap_or(true),
            hidden: rules["hidden_security_groups"].as_u64().unwrap_or_default(),
            ways: vec![way("In", "From", "ingress"), way("Out", "To", "egress")],
        }
    }
}

fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn name_of_policy(policy: &Value) -> String {
    format!("{}/{}", plain(&policy["namespace"]), plain(&policy["name"]))
}

fn lines(way: &Value, peers: &str) -> Vec<Passing> {
    let of_groups = each(&way["rules"]).map(|line| Passing {
        traffic: traffic(line),
        side: side(line),
        by: groups(&line["rules"]),
    });
    let of_policies = each(&way["label_policies"]).flat_map(|policy| {
        each(&policy["rules"]).map(|rule| Passing {
            traffic: words(each(&rule["ports"]).map(ports), "any"),
            side: words(each(&rule[peers]).map(peer), "anywhere"),
            by: vec![Link { href: String::new(), text: name_of_policy(policy) }],
        })
    });
    of_groups.chain(of_policies).collect()
}

fn side(line: &Value) -> String {
    match (&line["remote_ip_prefix"], &line["remote_group_id"], &line["remote_address_group_id"]) {
        (Value::String(prefix), ..) => prefix.clone(),
        (_, Value::String(id), _) => {
            format!("ports of group {}", line["remote_group_name"].as_str().map_or_else(|| short(id), str::to_owned))
        }
        (.., Value::String(id)) => format!("address group {}", short(id)),
        _ => "anywhere".to_owned(),
    }
}

/// The groups that these rules are of, each once.
fn groups(rules: &Value) -> Vec<Link> {
    let mut groups: Vec<Link> = Vec::new();
    for rule in each(rules) {
        let (id, name) = (plain(&rule["security_group_id"]), plain(&rule["security_group_name"]));
        let text = if name.is_empty() { short(&id) } else { name };
        let link = Link { href: declared("security-groups").page_of(&id), text };
        if !groups.contains(&link) {
            groups.push(link);
        }
    }
    groups
}

fn words(all: impl Iterator<Item = String>, none: &str) -> String {
    let all: Vec<String> = all.collect();
    if all.is_empty() { none.to_owned() } else { all.join(", ") }
}

/// Ports of a rule of a label policy.
fn ports(of: &Value) -> String {
    let protocol = of["protocol"].as_str().unwrap_or("TCP");
    match (of["port"].as_u64(), of["endPort"].as_u64()) {
        (Some(first), Some(last)) => format!("{protocol} {first}-{last}"),
        (Some(one), None) => format!("{protocol} {one}"),
        (None, _) => protocol.to_owned(),
    }
}

/// Whom a rule of a label policy names.
fn peer(peer: &Value) -> String {
    if let Some(block) = peer["ipBlock"].as_object() {
        let cidr = block.get("cidr").map(plain).unwrap_or_default();
        let holes = words(each(block.get("except").unwrap_or(&Value::Null)).map(plain), "");
        return if holes.is_empty() { cidr } else { format!("{cidr} except {holes}") };
    }
    let labelled = |what: &str, selector: &Value| match selected(selector) {
        all if all.is_empty() => format!("all {what}"),
        some => format!("{what} labelled {some}"),
    };
    let ports = labelled("ports", &peer["podSelector"]);
    match &peer["namespaceSelector"] {
        Value::Null => format!("{ports} of this namespace"),
        namespaces => format!("{ports} of {}", labelled("namespaces", namespaces)),
    }
}

/// What a selector asks for; nothing: everything is selected.
fn selected(selector: &Value) -> String {
    let equal = selector["matchLabels"].as_object().into_iter().flatten();
    let equal = equal.map(|(key, value)| format!("{key}={}", plain(value)));
    let asked = each(&selector["matchExpressions"]).map(|asked| {
        let (key, values) = (plain(&asked["key"]), words(each(&asked["values"]).map(plain), ""));
        match asked["operator"].as_str() {
            Some("In") => format!("{key} in ({values})"),
            Some("NotIn") => format!("{key} not in ({values})"),
            Some("DoesNotExist") => format!("without {key}"),
            _ => key,
        }
    });
    words(equal.chain(asked), "")
}

/// What can be asked for.
const ASKED: [&str; 4] = ["direction", "protocol", "destination_port", "marker"];

struct Reached {
    port: Link,
    addresses: String,
    traffic: String,
    /// Answers pass there without a rule.
    stateful: bool,
}

struct Found {
    /// Answers pass at the port that is asked about without a rule.
    stateful: bool,
    ports: Vec<Reached>,
    looked_at: String,
    next: Option<String>,
    /// Ports of others are not told of.
    own_only: bool,
    addresses: Vec<(String, String)>,
    more_addresses: bool,
}

#[derive(Template)]
#[template(path = "reach.html")]
struct Reach {
    frame: Frame,
    port: Link,
    action: String,
    outwards: bool,
    protocol: String,
    destination_port: String,
    error: Option<String>,
    found: Option<Found>,
}

fn found(answer: &Value, asked: &Query, action: &str) -> Found {
    let all = |lines: &Value| words(each(lines).map(traffic), "nothing");
    let ports = each(&answer["ports"]).map(|port| {
        let (id, name) = (plain(&port["port_id"]), plain(&port["name"]));
        Reached {
            port: Link { href: declared("ports").page_of(&id), text: if name.is_empty() { short(&id) } else { name } },
            addresses: words(each(&port["addresses"]).map(plain), ""),
            traffic: all(&port["traffic"]),
            stateful: port["stateful"].as_bool().unwrap_or(true),
        }
    });
    let next = answer["next_marker"].as_str();
    Found {
        stateful: answer["stateful"].as_bool().unwrap_or(true),
        ports: ports.collect(),
        looked_at: plain(&answer["looked_at"]),
        next: next.map(|marker| asked.clone().without("marker").with("marker", marker).after(action)),
        own_only: answer["of_all_projects"] != true,
        addresses: each(&answer["addresses"]).map(|one| (plain(&one["prefix"]), all(&one["traffic"]))).collect(),
        more_addresses: answer["more_addresses"] == true,
    }
}

/// Who may reach a port, or whom it may: asked when the page is.
pub async fn reach(signed: Signed, path: Path<String>, request: HttpRequest) -> Result<HttpResponse, Fault> {
    let ports = declared("ports");
    let port = super::show::object(&signed, ports, &path).await?;
    let id = plain(&port["id"]);
    let query = Query::parse(request.query_string());
    if let Some((name, _)) = query.pairs().iter().find(|(name, _)| !ASKED.contains(&name.as_str())) {
        return Err(Fault::Bad(format!("this page has no `{name}`")));
    }
    let text = |name: &str| query.get(name).unwrap_or_default().trim().to_owned();
    let asked = ASKED.iter().map(|name| (*name, text(name))).filter(|(_, value)| !value.is_empty());
    let asked = asked.fold(Query::new(), |asked, (name, value)| asked.with(name, value));
    let action = format!("{}/reach", ports.page_of(&id));
    let (mut status, mut error, mut seen) = (StatusCode::OK, None, None);
    match signed.calls.get(&format!("{}/reachable-from", ports.api_of(&id)), &asked).await {
        Ok(answer) => seen = Some(found(&object(answer, "reachable_from")?, &asked, &action)),
        Err(CallError::Refused(refused)) if matches!(refused.status, 400 | 403) => {
            status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::BAD_REQUEST);
            error = Some(refused.message);
        }
        Err(error) => return Err(error.into()),
    }
    let title = (ports.title)(&port);
    let page = Reach {
        frame: Frame::new(&signed, crate::page::title(status, &format!("Who can reach {title}")), &action),
        port: Link { href: ports.page_of(&id), text: title },
        action,
        outwards: text("direction") == "egress",
        protocol: text("protocol"),
        destination_port: text("destination_port"),
        error,
        found: seen,
    };
    answer(status, &page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(protocol: Option<u8>, port: u16, by: &[(&str, &str)]) -> Value {
        let rules =
            by.iter().map(|(id, group)| json!({"id": id, "security_group_id": group, "security_group_name": group}));
        json!({"ethertype": "IPv4", "protocol": protocol, "port_range_min": port, "port_range_max": port,
            "remote_ip_prefix": null, "remote_group_id": "0123456789", "remote_group_name": "web",
            "remote_address_group_id": null, "rules": rules.collect::<Vec<_>>()})
    }

    #[test]
    fn what_groups_let_through_is_said_with_each_group_once() {
        let way = json!({"decided_by": "security_groups", "label_policies": [],
            "rules": [line(Some(6), 80, &[("1", "one"), ("2", "two"), ("3", "two")])]});
        let seen = lines(&way, "from");
        assert_eq!(seen.len(), 1);
        assert_eq!((seen[0].traffic.as_str(), seen[0].side.as_str()), ("TCP 80", "ports of group web"));
        assert_eq!(seen[0].by.iter().map(|link| link.text.as_str()).collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(seen[0].by[0].href, "/security-groups/one");
    }

    #[test]
    fn where_label_policies_decide_their_rules_are_said() {
        let policy = json!({"id": "p", "namespace": "shop", "name": "web", "rules": [
            {"ports": [{"port": 80}, {"protocol": "UDP", "port": 5000, "endPort": 5010}],
             "from": [{"podSelector": {"matchLabels": {"app": "front"}}},
                      {"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "In", "values": ["a", "b"]}]},
                       "podSelector": {}},
                      {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]},
            {}]});
        let way = json!({"decided_by": "label_policies", "rules": [], "label_policies": [policy]});
        let rules = json!({"port_id": "x", "filtered": true, "hidden_security_groups": 0, "ingress": way,
            "egress": {"decided_by": "security_groups", "rules": [], "label_policies": []}});
        let seen = Effective::of(&rules);
        let [ingress, egress] = seen.ways.as_slice() else { panic!("two ways") };
        assert_eq!(ingress.policies, ["shop/web"]);
        assert_eq!(ingress.lines[0].traffic, "TCP 80, UDP 5000-5010");
        assert_eq!(
            ingress.lines[0].side,
            "ports labelled app=front of this namespace, all ports of namespaces labelled team in (a, b), \
             10.0.0.0/8 except 10.1.0.0/16"
        );
        assert_eq!((ingress.lines[1].traffic.as_str(), ingress.lines[1].side.as_str()), ("any", "anywhere"));
        assert_eq!(ingress.lines[1].by, [Link { href: String::new(), text: "shop/web".into() }]);
        assert!(egress.policies.is_empty() && egress.lines.is_empty());
    }

    #[test]
    fn a_policy_without_rules_lets_nothing_pass_and_is_named() {
        let way = json!({"decided_by": "label_policies", "rules": [],
            "label_policies": [{"id": "p", "namespace": "shop", "name": "deny-all", "rules": []}]});
        let seen = Effective::of(&json!({"filtered": true, "ingress": way, "egress": {}}));
        assert_eq!(seen.ways[0].policies, ["shop/deny-all"]);
        assert!(seen.render().is_ok_and(|html| html.contains("shop/deny-all") && html.contains("Nothing.")));
    }

    #[test]
    fn what_is_said_of_answers_is_what_holds_for_the_port() -> Result<(), askama::Error> {
        let nothing = json!({"decided_by": "security_groups", "rules": [], "label_policies": []});
        let html = |stateful: bool| {
            let rules = json!({"filtered": true, "stateful": stateful, "ingress": nothing, "egress": nothing});
            Effective::of(&rules).render()
        };
        let (stateful, stateless) = (html(true)?, html(false)?);
        assert!(stateful.contains("Answers to what may pass may pass too") && !stateful.contains("stateless"));
        assert!(stateless.contains("stateless") && !stateless.contains("may pass too"), "{stateless}");
        let answer = json!({"stateful": false, "ports": [{"port_id": "1", "stateful": false, "traffic": []}, {"port_id": "2",
            "stateful": true, "traffic": []}], "addresses": []});
        let seen = found(&answer, &Query::new(), "/ports/x/reach");
        assert!(!seen.stateful);
        assert_eq!(seen.ports.iter().map(|port| port.stateful).collect::<Vec<_>>(), [false, true]);
        Ok(())
    }

    #[test]
    fn further_ports_are_asked_for_with_the_same_question() {
        let answer = json!({"ports": [{"port_id": "0123456789", "name": "", "addresses": ["10.0.0.5"],
            "traffic": [{"protocol": 6, "port_range_min": 22, "port_range_max": 22}]}],
            "looked_at": 2000, "next_marker": "m2", "of_all_projects": false,
            "addresses": [{"prefix": "0.0.0.0/0", "traffic": [{"protocol": null}]}], "more_addresses": false});
        let seen = found(&answer, &Query::new().with("protocol", "tcp").with("marker", "m1"), "/ports/x/reach");
        assert_eq!(seen.next.as_deref(), Some("/ports/x/reach?protocol=tcp&marker=m2"));
        assert_eq!((seen.ports[0].port.text.as_str(), seen.ports[0].traffic.as_str()), ("01234567", "TCP 22"));
        assert_eq!(seen.addresses, [("0.0.0.0/0".to_owned(), "any".to_owned())]);
        assert!(seen.own_only);
    }
}
