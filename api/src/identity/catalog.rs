//! The service catalog.

use crate::app::Settings;
use serde_json::{Value, json};
use uuid::Uuid;

/// Ids of services and endpoints never change, so they are made of names.
fn id(name: &str) -> String {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    Uuid::from_bytes(bytes).simple().to_string()
}

/// Where clients find what. The network service is named without version: clients append it.
pub fn catalog(settings: &Settings) -> Value {
    let service = |kind: &str, name: &str, url: String| {
        let endpoint = |interface: &str| {
            json!({
                "id": id(&format!("{interface} {kind}")),
                "interface": interface,
                "region": settings.region,
                "region_id": settings.region,
                "url": url,
            })
        };
        let endpoints: Vec<Value> = ["public", "internal", "admin"].into_iter().map(endpoint).collect();
        json!({"id": id(kind), "type": kind, "name": name, "endpoints": endpoints})
    };
    json!([
        service("identity", "mizar identity", format!("{}/v3", settings.public_url)),
        service("network", "mizar", settings.public_url.clone()),
    ])
}
