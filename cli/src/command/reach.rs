//! What may pass to and from a port: `rules`, `who-can-reach`, `can-reach`.

use super::render::{Format, Output, cell};
use super::resource::Resource;
use super::seeing::protocol;
use super::{cloud, tree};
use crate::client::Api;
use anyhow::{Context, Result};
use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::{Value, json};

/// What has the verbs.
const NOUN: &str = "port";
/// The rules that decide.
const RULES: &str = "rules";
/// Who may open a connection to it.
const WHO_CAN_REACH: &str = "who-can-reach";
/// To whom it may open one.
const CAN_REACH: &str = "can-reach";

/// Ports that are asked for at once.
const PAGE: &str = "1000";

/// Adds the verbs to the noun that has them.
pub fn extend(noun: Command) -> Command {
    if noun.get_name() != NOUN {
        return noun;
    }
    let verb = |name: &'static str, about: &'static str, example: &str| {
        let command = Command::new(name).about(about).after_help(format!("Example:\n  mizar {NOUN} {name} {example}"));
        command.arg(Arg::new("object").value_name("NAME").required(true).help("Name or id"))
    };
    let narrowed = |command: Command| {
        command.args([
            Arg::new("proto").long("proto").value_name("PROTOCOL").help("Only by this protocol, a name or a number"),
            Arg::new("port")
                .long("port")
                .value_name("N")
                .value_parser(value_parser!(u16).range(1..))
                .help("Only to this destination port; of TCP, unless --proto says otherwise"),
        ])
    };
    let rules = verb(RULES, "Show what may pass to and from a port, and by which rules", "web-1");
    let who = "Show which ports and addresses may open a connection to a port, by the rules of both sides";
    let who = narrowed(verb(WHO_CAN_REACH, who, "web-1 --proto tcp --port 443"));
    let whom = "Show to which ports and addresses a port may open a connection, by the rules of both sides";
    let whom = narrowed(verb(CAN_REACH, whom, "web-1 --proto tcp --port 5432"));
    let said = noun.get_about().map(ToString::to_string).unwrap_or_default();
    let noun = noun.about(format!("{said}, {RULES}, {WHO_CAN_REACH}, {CAN_REACH}"));
    [rules, who, whom].into_iter().fold(noun, |noun, verb| noun.subcommand(tree::output(verb)))
}

/// Asks, if the verb is one of these.
pub fn run(api: &Api, resource: &Resource, verb: &str, matches: &ArgMatches) -> Option<Result<String>> {
    match verb {
        _ if resource.noun != NOUN => None,
        RULES => Some(rules(api, resource, matches)),
        WHO_CAN_REACH => Some(reach(api, resource, "ingress", matches)),
        CAN_REACH => Some(reach(api, resource, "egress", matches)),
        _ => None,
    }
}

fn path(api: &Api, resource: &Resource, matches: &ArgMatches) -> Result<String> {
    let name = matches.get_one::<String>("object").expect("is required");
    Ok(format!("{}/{}", resource.path, cloud::escape(&cloud::id(api, resource, name)?)))
}

fn is_table(matches: &ArgMatches) -> bool {
    *matches.get_one::<Format>("output").expect("has a default") == Format::Table
}

fn rules(api: &Api, resource: &Resource, matches: &ArgMatches) -> Result<String> {
    let path = format!("{}/effective-rules", path(api, resource, matches)?);
    let rules = api.get(&path)?["effective_rules"].take();
    let output = Output::of(matches);
    if is_table(matches) { rules_table(&rules, &output) } else { output.object(&rules) }
}

fn rules_table(rules: &Value, output: &Output) -> Result<String> {
    if rules["filtered"] == false {
        return Ok("nothing filters the port: everything may pass".to_owned());
    }
    let (mut rows, mut notes) = (Vec::new(), Vec::new());
    for direction in ["ingress", "egress"] {
        let way = &rules[direction];
        let before = rows.len();
        rows.extend(each(&way["rules"]).map(|rule| row_of_rule(direction, rule)));
        for policy in each(&way["label_policies"]) {
            rows.extend(each(&policy["rules"]).map(|rule| row_of_policy(direction, policy, rule)));
        }
        if way["decided_by"] == "label_policies" {
            let names =
                each(&way["label_policies"]).map(|one| format!("{}/{}", cell(&one["namespace"]), cell(&one["name"])));
            let names = names.collect::<Vec<_>>().join(", ");
            notes.push(format!("{direction}: label policies decide ({names}), rules of security groups do not count"));
        }
        if rows.len() == before {
            notes.push(format!("{direction}: nothing may pass"));
        }
    }
    if rules["stateful"] == false {
        notes.push("its security groups are stateless: answers pass only as far as these rules let them".to_owned());
    }
    match rules["hidden_security_groups"].as_u64() {
        None | Some(0) => {}
        Some(hidden) => {
            notes.push(format!("{hidden} of its security groups cannot be shown to you: more may pass by them"))
        }
    }
    let mut text =
        if rows.is_empty() { String::new() } else { output.list(&rows, &["direction", "traffic", "remote", "by"])? };
    for note in notes {
        text += &format!("{}{note}", if text.is_empty() { "" } else { "\n" });
    }
    Ok(text)
}

fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn row_of_rule(direction: &str, rule: &Value) -> Value {
    let mut remote = match (&rule["remote_ip_prefix"], &rule["remote_group_id"], &rule["remote_address_group_id"]) {
        (Value::String(prefix), ..) => prefix.clone(),
        (_, Value::String(id), _) => match &rule["remote_group_name"] {
            Value::String(name) => format!("group {name}"),
            _ => format!("group {id}"),
        },
        (_, _, Value::String(id)) => format!("address group {id}"),
        _ => "anywhere".to_owned(),
    };
    if rule["ethertype"] == "IPv6" {
        remote += " (IPv6)";
    }
    let by = each(&rule["rules"]).map(|one| format!("{} {}", cell(&one["security_group_name"]), cell(&one["id"])));
    json!({"direction": direction, "traffic": traffic(rule), "remote": remote, "by": by.collect::<Vec<_>>().join(", ")})
}

/// A rule as a manifest has it.
fn row_of_policy(direction: &str, policy: &Value, rule: &Value) -> Value {
    let ports = each(&rule["ports"]).map(|port| {
        let (protocol, first) = (port["protocol"].as_str().unwrap_or("TCP").to_lowercase(), &port["port"]);
        match (first.is_null(), port["endPort"].is_null()) {
            (true, _) => protocol,
            (false, true) => format!("{protocol} {}", cell(first)),
            (false, false) => format!("{protocol} {}-{}", cell(first), cell(&port["endPort"])),
        }
    });
    let peers = each(&rule[if direction == "ingress" { "from" } else { "to" }]).map(Value::to_string);
    let or = |words: Vec<String>, none: &str| if words.is_empty() { none.to_owned() } else { words.join(", ") };
    json!({
        "direction": direction,
        "traffic": or(ports.collect(), "everything"),
        "remote": or(peers.collect(), "anywhere"),
        "by": format!("{}/{}", cell(&policy["namespace"]), cell(&policy["name"])),
    })
}

/// `tcp 80-90`, `icmp type 8`
fn traffic(line: &Value) -> String {
    let Some(number) = line["protocol"].as_u64() else { return "everything".to_owned() };
    let (name, low, high) = (protocol(number), &line["port_range_min"], &line["port_range_max"]);
    match (low.is_null(), high.is_null()) {
        (true, _) => name,
        (false, true) => format!("{name} type {}", cell(low)),
        (false, false) if name == "icmp" => format!("{name} type {} code {}", cell(low), cell(high)),
        (false, false) if low == high => format!("{name} {}", cell(low)),
        (false, false) => format!("{name} {}-{}", cell(low), cell(high)),
    }
}

fn all_traffic(lines: &Value) -> String {
    each(lines).map(traffic).collect::<Vec<_>>().join(", ")
}

fn reach(api: &Api, resource: &Resource, direction: &str, matches: &ArgMatches) -> Result<String> {
    let path = format!("{}/reachable-from", path(api, resource, matches)?);
    let mut asked = vec![("direction", direction.to_owned()), ("limit", PAGE.to_owned())];
    let port = matches.get_one::<u16>("port");
    let proto = matches.get_one::<String>("proto").cloned().or_else(|| port.map(|_| "tcp".to_owned()));
    asked.extend(proto.map(|proto| ("protocol", proto)));
    asked.extend(port.map(|port| ("destination_port", port.to_string())));
    let ask = |marker: Option<&str>| -> Result<Value> {
        let marker = marker.map(|marker| ("marker", marker.to_owned()));
        let pairs = asked.iter().cloned().chain(marker);
        Ok(api.get(&format!("{path}?{}", cloud::query(pairs)))?["reachable_from"].take())
    };
    let mut found = ask(None)?;
    while let Some(marker) = found["next_marker"].as_str() {
        let mut next = ask(Some(marker))?;
        let more = next["ports"].as_array_mut().map(std::mem::take).context("the answer has no list `ports`")?;
        found["ports"].as_array_mut().context("the answer has no list `ports`")?.extend(more);
        let looked_at =
            found["looked_at"].as_u64().unwrap_or_default() + next["looked_at"].as_u64().unwrap_or_default();
        found["looked_at"] = json!(looked_at);
        found["next_marker"] = next["next_marker"].take();
    }
    let output = Output::of(matches);
    if is_table(matches) { reach_table(&found, &output) } else { output.object(&found) }
}

fn reach_table(found: &Value, output: &Output) -> Result<String> {
    let row = |what: &str, id: &Value, addresses: &Value, lines: &Value| json!({"name": what, "id": id, "addresses": addresses, "traffic": all_traffic(lines)});
    let ports =
        each(&found["ports"]).map(|one| row(&cell(&one["name"]), &one["port_id"], &one["addresses"], &one["traffic"]));
    let rows: Vec<Value> = ports.collect();
    let is_in = found["direction"] == "ingress";
    let whose = if found["of_all_projects"] == true { "no port" } else { "no port of the project" };
    let mut text = match (rows.as_slice(), is_in) {
        ([], true) => format!("{whose} can reach it"),
        ([], false) => format!("it can reach {whose}"),
        (rows, _) => output.list(rows, &["name", "id", "addresses", "traffic"])?,
    };
    for one in each(&found["addresses"]) {
        let (from, prefix) = (if is_in { "from" } else { "to" }, cell(&one["prefix"]));
        text += &format!("\nby its own rules anybody {from} {prefix}: {}", all_traffic(&one["traffic"]));
    }
    if found["stateful"] == false {
        text += "\nits security groups are stateless: answers need rules of their own";
    }
    let stateless = each(&found["ports"]).filter(|one| one["stateful"] == false).map(|one| cell(&one["name"]));
    let stateless = stateless.collect::<Vec<_>>().join(", ");
    if !stateless.is_empty() {
        text += &format!("\nthe security groups of {stateless} are stateless: answers need rules of their own there");
    }
    if found["more_addresses"] == true {
        text += "\nand more addresses than can be shown";
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Output {
        Output::new(Format::Value, Vec::new())
    }

    #[test]
    fn rules_are_told_with_groups_and_ids() -> Result<()> {
        let by = json!([{"id": "r1", "security_group_name": "web"}, {"id": "r2", "security_group_name": "ops"}]);
        let line = |low: Value, high: Value, more: Value| {
            let mut line =
                json!({"ethertype": "IPv4", "protocol": 6, "port_range_min": low, "port_range_max": high, "rules": by});
            line.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            line
        };
        let rules = json!({
            "filtered": true, "hidden_security_groups": 2,
            "ingress": {"decided_by": "security_groups", "label_policies": [], "rules": [
                line(json!(80), json!(90), json!({"remote_group_id": "g1", "remote_group_name": "lb"})),
                line(json!(22), json!(22), json!({"remote_ip_prefix": "10.0.0.0/8"})),
                line(json!(8), Value::Null, json!({"protocol": 1, "ethertype": "IPv6"})),
            ]},
            "egress": {"decided_by": "label_policies", "rules": [], "label_policies": [
                {"namespace": "shop", "name": "db", "rules": [
                    {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 1, "endPort": 9}], "to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
                    {},
                ]},
            ]},
        });
        let golden = "\
ingress\ttcp 80-90\tgroup lb\tweb r1, ops r2
ingress\ttcp 22\t10.0.0.0/8\tweb r1, ops r2
ingress\ticmp type 8\tanywhere (IPv6)\tweb r1, ops r2
egress\tudp 53, tcp 1-9\t{\"ipBlock\":{\"cidr\":\"10.0.0.0/8\"}}\tshop/db
egress\teverything\tanywhere\tshop/db
egress: label policies decide (shop/db), rules of security groups do not count
2 of its security groups cannot be shown to you: more may pass by them";
        assert_eq!(rules_table(&rules, &plain())?, golden);
        Ok(())
    }

    #[test]
    fn a_port_that_nothing_filters_and_one_that_lets_nothing_pass_say_so() -> Result<()> {
        assert_eq!(
            rules_table(&json!({"filtered": false}), &plain())?,
            "nothing filters the port: everything may pass"
        );
        let way = json!({"decided_by": "security_groups", "rules": [], "label_policies": []});
        let closed = json!({"filtered": true, "hidden_security_groups": 0, "ingress": way, "egress": way});
        assert_eq!(rules_table(&closed, &plain())?, "ingress: nothing may pass\negress: nothing may pass");
        let mut stateless = closed;
        stateless["stateful"] = json!(false);
        assert!(rules_table(&stateless, &plain())?.contains("stateless: answers pass only as far as these rules"));
        Ok(())
    }

    #[test]
    fn who_can_reach_a_port_is_told_with_what_passes() -> Result<()> {
        let tcp = |low: u16, high: u16| json!({"protocol": 6, "port_range_min": low, "port_range_max": high});
        let ping = json!({"protocol": 1, "port_range_min": 8, "port_range_max": 0});
        let mut found = json!({
            "direction": "ingress", "of_all_projects": false, "more_addresses": true,
            "ports": [{"name": "lb", "port_id": "p1", "addresses": ["10.0.0.5"], "traffic": [tcp(80, 90), tcp(443, 443), ping]}],
            "addresses": [{"prefix": "0.0.0.0/0", "traffic": [{"protocol": null, "port_range_min": null, "port_range_max": null}]}],
        });
        let golden = "\
lb\tp1\t10.0.0.5\ttcp 80-90, tcp 443, icmp type 8 code 0
by its own rules anybody from 0.0.0.0/0: everything
and more addresses than can be shown";
        assert_eq!(reach_table(&found, &plain())?, golden);
        (found["stateful"], found["ports"][0]["stateful"]) = (json!(false), json!(false));
        let stateless = "
its security groups are stateless: answers need rules of their own
the security groups of lb are stateless: answers need rules of their own there
and more addresses than can be shown";
        assert!(reach_table(&found, &plain())?.ends_with(stateless));
        found["stateful"] = json!(true);
        (found["ports"], found["addresses"], found["more_addresses"]) = (json!([]), json!([]), json!(false));
        assert_eq!(reach_table(&found, &plain())?, "no port of the project can reach it");
        (found["direction"], found["of_all_projects"]) = (json!("egress"), json!(true));
        assert_eq!(reach_table(&found, &plain())?, "it can reach no port");
        Ok(())
    }
}
