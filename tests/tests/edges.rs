//! The edges between crates (DESIGN section 2), read from the manifests as cargo understands
//! them. What is pure stays pure, the agent never sees the database, and nobody adds an edge
//! without changing this table.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Every crate with the crates of this workspace that it may depend on.
const EDGES: [(&str, &[&str]); 20] = [
    ("mizar-abi", &[]),
    ("mizar-packet", &["mizar-abi"]),
    ("mizar-domain", &["mizar-abi"]),
    ("mizar-wire", &["mizar-domain"]),
    ("mizar-compile", &["mizar-domain", "mizar-wire"]),
    ("mizar-drawn", &["mizar-compile", "mizar-domain", "mizar-wire"]),
    ("mizar-placement", &["mizar-abi", "mizar-domain"]),
    ("mizar-metrics", &[]),
    ("mizar-db", &["mizar-compile", "mizar-domain", "mizar-wire"]),
    ("mizar-testkit", &["mizar-db"]),
    ("mizar-api", &["mizar-compile", "mizar-db", "mizar-domain", "mizar-metrics", "mizar-wire"]),
    (
        "mizar-scheduler",
        &["mizar-compile", "mizar-db", "mizar-domain", "mizar-metrics", "mizar-placement", "mizar-wire"],
    ),
    ("mizar-plan", &["mizar-abi", "mizar-wire"]),
    ("mizar-agent", &["mizar-abi", "mizar-metrics", "mizar-packet", "mizar-plan", "mizar-wire"]),
    ("mizar-web", &[]),
    ("mizar", &["mizar-abi", "mizar-wire"]),
    ("mizar-tests", &["mizar", "mizar-abi"]),
    ("mizar-bench", &["mizar", "mizar-abi", "mizar-dataplane-tests", "mizar-packet", "mizar-wire"]),
    ("mizar-dataplane-tests", &["mizar-abi", "mizar-packet"]),
    ("mizar-fuzz", &["mizar-abi", "mizar-packet", "mizar-wire"]),
];

/// Crates of others that must not reach a crate, directly or through any other.
const BANNED: [(&str, &[&str]); 8] = [
    ("mizar-domain", &["diesel", "actix-web", "tokio"]),
    ("mizar-wire", &["diesel", "actix-web", "tokio"]),
    ("mizar-compile", &["diesel", "actix-web", "tokio"]),
    ("mizar-placement", &["diesel", "actix-web", "tokio"]),
    ("mizar-plan", &["diesel", "actix-web", "tokio", "aya"]),
    ("mizar-agent", &["diesel", "tokio-postgres"]),
    ("mizar-web", &["diesel", "tokio-postgres"]),
    ("mizar", &["diesel", "tokio-postgres", "actix-web"]),
];

fn metadata(arguments: &[&str]) -> Value {
    let cargo = std::env::var("MIZAR_CARGO").or_else(|_| std::env::var("CARGO")).unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--offline"])
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo writes JSON")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("cargo metadata has text here")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("cargo metadata has a list here")
}

#[test]
fn crates_depend_on_each_other_as_designed() {
    let metadata = metadata(&["--no-deps"]);
    let allowed: BTreeMap<_, _> = EDGES.into_iter().collect();
    let packages = list(&metadata["packages"]);
    let own: BTreeSet<_> = packages.iter().map(|package| text(&package["name"])).collect();
    for package in packages {
        let name = text(&package["name"]);
        let may = allowed.get(name).unwrap_or_else(|| panic!("{name} is not in the table of edges"));
        for dependency in list(&package["dependencies"]).iter().filter(|d| d["kind"].is_null()) {
            let on = text(&dependency["name"]);
            assert!(!own.contains(on) || may.contains(&on), "{name} must not depend on {on}");
        }
    }
}

#[test]
fn heavy_crates_do_not_reach_the_pure_ones() {
    // Of this platform: a build fetches the crates of no other, and the test fetches none.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let metadata = metadata(&["--filter-platform", &platform]);
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata["resolve"]["nodes"]).iter().map(|node| (text(&node["id"]), node)).collect();
    let names: BTreeMap<&str, &str> =
        list(&metadata["packages"]).iter().map(|p| (text(&p["id"]), text(&p["name"]))).collect();
    for (name, banned) in BANNED {
        let start = names.iter().find(|(_, n)| **n == name).map(|(id, _)| *id).unwrap_or_else(|| panic!("no {name}"));
        let mut reached = BTreeSet::from([start]);
        let mut open = vec![start];
        while let Some(id) = open.pop() {
            for edge in list(&nodes[id]["deps"]) {
                let normal = list(&edge["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
                let to = text(&edge["pkg"]);
                if normal && reached.insert(to) {
                    open.push(to);
                }
            }
        }
        for id in reached {
            assert!(!banned.contains(&names[id]), "{name} must not reach {}", names[id]);
        }
    }
}
