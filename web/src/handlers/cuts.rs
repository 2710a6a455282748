//! Which flows the end of rules would cut: the API's preview, which asks the hosts of the group's ports for their
//! flows and judges each by the rules that stay.

use super::flows::Flows;
use crate::api::{CallError, object};
use crate::cell::{Link, link_to};
use crate::fault::Fault;
use crate::resource::declared;
use crate::resource::text::plain;
use crate::signed::Signed;
use futures::future::try_join_all;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Hosts are asked that long; then those that are silent are named.
const ASKED_S: u64 = 4;

/// People wait for the page that long.
const PATIENCE: Duration = Duration::from_secs(ASKED_S + 2);

/// Ports that are looked at: as many as the API looks at in one request.
const PORTS: usize = 100;

/// Groups whose hosts are asked; who deletes rules of more is told that the others were not.
const GROUPS: usize = 4;

/// What the end of rules of a group would cut.
#[derive(Debug)]
pub struct Cut {
    /// The group.
    pub group: Link,
    /// What was found, or why nothing was.
    pub found: Result<Found, String>,
}

/// What hosts say.
#[derive(Debug)]
pub struct Found {
    /// Ports that were looked at.
    pub ports: String,
    /// Flows that were looked at.
    pub flows: String,
    /// Of these the ones that would be cut, and their number.
    pub cut: usize,
    /// A table of them; nothing if there is none.
    pub table: String,
    /// Hosts that did not answer, and why.
    pub silent: Vec<String>,
    /// Flows that were not looked at, because there are too many.
    pub left_out: u64,
    /// The group has more ports.
    pub further: bool,
    /// Ports of other projects are not looked at.
    pub own_only: bool,
}

/// The preview for these rules, group by group.
pub async fn of_rules(signed: &Signed, rules: &[Value]) -> Result<Vec<Cut>, Fault> {
    let mut by_group: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for rule in rules {
        by_group.entry(plain(&rule["security_group_id"])).or_default().push(&rule["id"]);
    }
    let of = declared("security-groups");
    let ids = by_group.keys().take(GROUPS);
    let query = crate::api::Query::new().with_each("id", ids).with_each("fields", of.called_by());
    let groups = signed.calls.list(of.api, of.plural, &query).await?;
    let cuts = by_group.iter().enumerate().map(|(number, (id, rules))| {
        let known = groups.iter().find(|group| group["id"] == **id).cloned();
        let group = link_to(of, &known.unwrap_or_else(|| json!({ "id": id })));
        async move {
            let found = match number < GROUPS {
                true => asked(signed, id, rules).await?,
                false => Err(format!("hosts are asked about {GROUPS} groups at once: delete fewer rules to see it")),
            };
            Ok::<_, Fault>(Cut { group, found })
        }
    });
    try_join_all(cuts).await
}

/// Asks; that there is no answer is something to show, unless nobody is signed in any more.
async fn asked(signed: &Signed, group: &str, rules: &[&Value]) -> Result<Result<Found, String>, Fault> {
    let at = format!("{}/preview", declared("security-groups").api_of(group));
    let body = json!({"preview": {"remove": rules, "limit": PORTS, "wait_seconds": ASKED_S}});
    let Ok(answer) = tokio::time::timeout(PATIENCE, signed.calls.post(&at, &body)).await else {
        return Ok(Err(format!("there was no answer within {} s", PATIENCE.as_secs())));
    };
    match answer {
        Ok(answer) => Ok(Ok(found(signed, &object(answer, "preview")?).await?)),
        Err(CallError::Refused(refused)) if refused.status == 401 => Err(CallError::Refused(refused).into()),
        Err(error) => Ok(Err(error.to_string())),
    }
}

async fn found(signed: &Signed, preview: &Value) -> Result<Found, Fault> {
    let cut = preview["cut"].as_array().map(Vec::as_slice).unwrap_or_default();
    let table = match cut {
        [] => String::new(),
        some => askama::Template::render(&Flows::of(signed, "Flows that would be cut", true, some).await?)?,
    };
    Ok(Found {
        ports: counted(&preview["ports"], "port"),
        flows: counted(&preview["flows"], "flow"),
        cut: cut.len(),
        table,
        silent: silent(preview),
        left_out: preview["left_out"].as_u64().unwrap_or_default(),
        further: preview["next_marker"].is_string(),
        own_only: preview["of_all_projects"] == false,
    })
}

fn counted(number: &Value, what: &str) -> String {
    match number.as_u64().unwrap_or_default() {
        1 => format!("1 {what}"),
        other => format!("{other} {what}s"),
    }
}

/// Hosts are named to operators; tenants read what a host is to the ports.
fn silent(preview: &Value) -> Vec<String> {
    let hosts = preview["hosts"].as_array().into_iter().flatten().filter(|host| host["error"].is_string());
    let said = hosts.map(|host| {
        let who = match (host["host"].as_str(), host["role"].as_str()) {
            (Some(name), _) => name,
            (None, Some("bouncer")) => "a bouncer of the ports' addresses",
            _ => "a host of the ports",
        };
        let ports = host["ports"].as_array().map_or(0, Vec::len);
        format!("{who}, asked about {}: {}", counted(&json!(ports), "port"), plain(&host["error"]))
    });
    said.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_did_not_answer_is_named_as_far_as_the_user_may_know() {
        let preview = json!({"hosts": [
            {"role": "port", "host": null, "error": null, "ports": ["1", "2"]},
            {"role": "port", "host": null, "error": "it slept", "ports": ["1"]},
            {"role": "bouncer", "host": null, "error": "it slept", "ports": ["1", "2"]},
            {"role": "bouncer", "host": "h1", "error": "it slept", "ports": ["2"]}]});
        let expected = [
            "a host of the ports, asked about 1 port: it slept",
            "a bouncer of the ports' addresses, asked about 2 ports: it slept",
            "h1, asked about 1 port: it slept",
        ];
        assert_eq!(silent(&preview), expected);
    }

    #[test]
    fn one_is_not_several() {
        assert_eq!([json!(0), json!(1), json!(2)].map(|n| counted(&n, "flow")), ["0 flows", "1 flow", "2 flows"]);
    }
}
