//! Who may do what: every operation of the OpenAPI document, tried by everybody.
//!
//! `api/tests/authorization.txt` is the matrix, for people to read and to review changes of. A
//! new operation has no line there, so the test fails until somebody has looked at what it allows.
//! Run with `MIZAR_WRITE_AUTHORIZATION=1` to write the file.
//!
//! `ok`: the rights sufficed (what was sent is empty, so that nothing more happens); 401, 403 and
//! 404 as answered. A new resource needs one object in [`objects`].

use crate::support::{Client, Cloud};
use anyhow::{Context as _, ensure};
use mizar_api::frame::caller::Role;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::path::Path;

/// One object of each resource, of the project that the callers are in.
async fn objects(cloud: &Cloud, owner: &Client) -> anyhow::Result<()> {
    cloud.host("h1", 1500, 1).await?;
    let (network, _) = owner.network("10.0.0.0/24").await?;
    let port = owner.make("port", json!({"network_id": network["id"], "device_owner": "compute:nova"})).await?;
    cloud.admin().await?.update("port", &port, json!({"binding:host_id": "h1"})).await?.ok(200)?;
    let nobody = uuid::Uuid::nil().simple().to_string();
    owner.share("network", &network, &nobody).await?;
    owner.post("/v2.0/address-scopes", &json!({"address_scope": {"ip_version": 4}})).await?.ok(201)?;
    owner.make("subnetpool", json!({"name": "p", "prefixes": ["10.0.0.0/8"]})).await?;
    owner.post("/v2.0/address-groups", &json!({"address_group": {}})).await?.ok(201)?;
    let manifest = crate::label_policies::manifest("web", json!({"podSelector": {}}));
    owner.post("/v2.0/label-policies", &json!({"label_policy": {"manifest": manifest}})).await?.ok(201)?;
    let (outside, _) = crate::routers::outside(&cloud.admin().await?).await?;
    owner.make("router", json!({})).await?;
    owner.make("floatingip", json!({"floating_network_id": outside["id"]})).await?;
    policy_with_rules(&cloud.admin().await?, owner).await?;
    let carrier = owner.make("port", json!({"network_id": network["id"]})).await?;
    owner.make("trunk", json!({"port_id": carrier["id"]})).await?;
    Ok(())
}

/// A QoS policy of the owner's with a rule of each kind.
async fn policy_with_rules(admin: &Client, owner: &Client) -> anyhow::Result<()> {
    let policy = crate::qos::policy(admin, json!({"project_id": owner.project})).await?;
    for (kind, amount) in [
        ("bandwidth_limit", json!({"max_kbps": 1})),
        ("dscp_marking", json!({"dscp_mark": 8})),
        ("minimum_bandwidth", json!({"min_kbps": 1})),
        ("minimum_packet_rate", json!({"min_kpps": 1})),
        ("packet_rate_limit", json!({"max_kpps": 1})),
    ] {
        let path = format!("{}/{kind}_rules", crate::qos::at(&policy));
        admin.post(&path, &json!({format!("{kind}_rule"): amount})).await?.ok(201)?;
    }
    Ok(())
}

/// The path with an object's id for each parameter.
async fn target(admin: &Client, owner: &Client, path: &str) -> anyhow::Result<String> {
    let mut target = String::new();
    for segment in path.split('/').skip(1) {
        let Some(name) = segment.strip_prefix('{') else {
            write!(target, "/{segment}")?;
            continue;
        };
        let value = match name.trim_end_matches('}') {
            "tag" => "t".to_owned(),
            "alias" => "mizar".to_owned(),
            "rule_type" => "dscp_marking".to_owned(),
            "project" => owner.project.clone(),
            "port" if target.starts_with("/v2.0/mizar") => {
                let ports = owner.get(&format!("/v2.0/ports?project_id={}", owner.project)).await?.ok(200)?;
                crate::support::id(&ports["ports"][0]).to_owned()
            }
            _ if target.starts_with("/v3") => uuid::Uuid::nil().simple().to_string(),
            _ => {
                let body = admin.get(&target).await?.ok(200)?;
                let list = body.as_object().and_then(|body| body.values().find_map(Value::as_array));
                let list = list.with_context(|| format!("{target} is no list"))?;
                // Of ports one on a host: it has a binding below it.
                let host = |object: &&Value| object["binding:host_id"].as_str().is_some_and(|host| !host.is_empty());
                let own = list.iter().filter(|object| object["project_id"] == owner.project.as_str()).max_by_key(host);
                let object = own.or(list.first()).with_context(|| format!("no object below {target}: add one"))?;
                let id = object["id"].as_str().or(object["network_id"].as_str()).or(object["host"].as_str());
                id.with_context(|| format!("no id below {target}"))?.to_owned()
            }
        };
        write!(target, "/{value}")?;
    }
    Ok(if target.is_empty() { "/".into() } else { target })
}

/// A body with nothing in its envelope.
fn empty_body(document: &Value, operation: &Value) -> Value {
    let mut schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    loop {
        let next = schema["$ref"].as_str().and_then(|name| document.pointer(name.trim_start_matches('#')));
        match next.or(schema["oneOf"].get(0)).or(schema["anyOf"].get(0)) {
            Some(inner) => schema = inner,
            None => break,
        }
    }
    let names = schema["properties"].as_object().into_iter().flat_map(Map::keys);
    match names.collect::<Vec<_>>()[..] {
        [envelope] if envelope == "tags" => json!({ envelope: [] }),
        [envelope] if schema["required"][0] == envelope.as_str() => json!({ envelope: {} }),
        _ => json!({}),
    }
}

fn outcome(status: u16) -> anyhow::Result<String> {
    ensure!(status < 500, "{status}");
    Ok(if matches!(status, 401 | 403 | 404) { status.to_string() } else { "ok".into() })
}

async fn matrix() -> anyhow::Result<String> {
    let cloud = Cloud::start().await?;
    let (admin, owner) = (cloud.admin().await?, cloud.tenant("owner", "member").await?);
    objects(&cloud, &owner).await?;
    let mut callers = Vec::new();
    for role in Role::ALL {
        let name = role.as_str();
        callers.push((name, cloud.colleague(&owner, &format!("the {name}"), name).await?));
    }
    callers.push(("other", cloud.tenant("other", "member").await?));
    callers.push(("nobody", cloud.stranger()));

    let document = serde_json::to_value(mizar_api::openapi::document())?;
    let mut matrix = format!("{:<7} {:<58}", "", "");
    for (name, _) in &callers {
        write!(matrix, " {name:>7}")?;
    }
    matrix.push('\n');
    // Found first: what the operations make has nothing below it.
    let mut targets = Vec::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        targets.push((path, item, target(&admin, &owner, path).await?));
    }
    for (path, item, target) in targets {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let method = method.to_uppercase();
            write!(matrix, "{method:<7} {path:<58}")?;
            let body = empty_body(&document, operation);
            for (name, caller) in &callers {
                // An impossible revision: a delete that is allowed ends with 412.
                let headers = [("If-Match", "revision_number=987654321")];
                let answer = caller.send(method.parse()?, &target, Some(body.to_string()), &headers).await?;
                let outcome = outcome(answer.status.as_u16()).with_context(|| format!("{name}: {method} {target}"))?;
                write!(matrix, " {outcome:>7}")?;
            }
            matrix.push('\n');
        }
    }
    Ok(matrix)
}

#[tokio::test]
async fn everybody_may_do_what_the_matrix_says_and_every_operation_is_in_it() -> anyhow::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/authorization.txt");
    let found = matrix().await?;
    if std::env::var_os("MIZAR_WRITE_AUTHORIZATION").is_some() {
        return Ok(std::fs::write(&path, found)?);
    }
    let expected = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let new: Vec<&str> = found.lines().filter(|line| !expected.lines().any(|known| known == *line)).collect();
    let gone: Vec<&str> = expected.lines().filter(|line| !found.lines().any(|known| known == *line)).collect();
    ensure!(
        new.is_empty() && gone.is_empty(),
        "rights differ from api/tests/authorization.txt (MIZAR_WRITE_AUTHORIZATION=1 writes it):\nis\n{}\nwas\n{}",
        new.join("\n"),
        gone.join("\n")
    );
    Ok(())
}
