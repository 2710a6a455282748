use anyhow::Context as _;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// Run with `MIZAR_WRITE_OPENAPI=1` to write the document instead.
#[test]
fn the_checked_in_openapi_document_is_the_one_that_the_server_has() -> anyhow::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../openapi/mizar.json");
    let document = mizar_api::openapi::json()?;
    if std::env::var_os("MIZAR_WRITE_OPENAPI").is_some() {
        std::fs::write(&path, document)?;
        return Ok(());
    }
    let checked_in = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    anyhow::ensure!(
        checked_in == document,
        "openapi/mizar.json is out of date: run MIZAR_WRITE_OPENAPI=1 cargo test -p mizar-api --test rest openapi"
    );
    Ok(())
}

fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn the_openapi_document_names_only_what_it_defines_and_each_operation_once() -> anyhow::Result<()> {
    let document = serde_json::to_value(mizar_api::openapi::document())?;
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 10);
    for reference in found {
        let pointer = reference.strip_prefix('#').context("a reference to elsewhere")?;
        assert!(document.pointer(pointer).is_some(), "{reference} is not defined");
    }
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let id = operation["operationId"].as_str().with_context(|| format!("{method} {path} has no id"))?;
            assert!(ids.insert(id), "{id} occurs twice");
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            for name in path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
                assert!(parameters.iter().any(|p| p["in"] == "path" && p["name"] == name), "{method} {path}: {name}");
            }
        }
    }
    assert!(ids.len() > 50, "{}", ids.len());
    Ok(())
}

#[tokio::test]
async fn every_operation_of_the_openapi_document_is_routed_and_asks_for_a_token() -> anyhow::Result<()> {
    let cloud = crate::support::Cloud::start().await?;
    let document = serde_json::to_value(mizar_api::openapi::document())?;
    let nobody = cloud.stranger();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let target = path.replace(['{', '}'], "");
            let method = method.to_uppercase().parse()?;
            let answer = nobody.send(method, &target, Some("{}".into()), &[]).await?;
            let status = answer.status.as_u16();
            if operation["security"].is_null() {
                assert!([200, 300, 400].contains(&status), "{path}: {status} {}", answer.text);
            } else {
                assert_eq!(status, 401, "{path} without a token");
            }
        }
    }
    Ok(())
}
