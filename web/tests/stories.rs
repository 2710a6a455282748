//! What the browser stories are told with: packages for the Node.js that Debian 12 has, and every kind of objects.

use mizar_web::resource;
use serde_json::{Value, json};

/// `./dev setup` installs Debian's Node.js where none is; a package for a later one runs on its
/// developer's machine and nowhere else.
const DEBIAN: u64 = 18;

/// The least major version that a package says it needs.
fn least(engines: &str) -> Option<u64> {
    engines.strip_prefix(">=")?.trim().split('.').next()?.parse().ok()
}

#[test]
fn the_stories_are_told_on_debians_nodejs() -> anyhow::Result<()> {
    let lock: Value = serde_json::from_str(include_str!("../e2e/package-lock.json"))?;
    let packages = lock["packages"].as_object().expect("packages");
    assert!(packages.len() > 2, "{packages:?}");
    for (name, package) in packages {
        let Some(engines) = package["engines"]["node"].as_str() else { continue };
        let fits = least(engines).is_some_and(|least| least <= DEBIAN);
        assert!(fits, "{name} {} wants Node.js {engines}; Debian 12 has {DEBIAN}", package["version"]);
    }
    Ok(())
}

/// Stories visit the pages of every kind, of which they know by this file: a new kind, form or page of one is
/// visited once it is written anew (MIZAR_WRITE_KINDS=1).
#[test]
fn the_stories_know_every_kind() -> anyhow::Result<()> {
    let kinds = resource::all().map(|kind| {
        let doors: Vec<&str> = kind.doors.iter().map(|(end, _)| *end).collect();
        let verbs = kind.verbs;
        json!({"path": kind.path, "operator": verbs.operator, "create": verbs.create, "edit": verbs.edit,
            "remove": verbs.delete, "doors": doors})
    });
    let now = serde_json::to_string_pretty(&Value::Array(kinds.collect()))? + "\n";
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/kinds.json");
    if std::env::var_os("MIZAR_WRITE_KINDS").is_some() {
        std::fs::write(file, &now)?;
    }
    assert_eq!(std::fs::read_to_string(file)?, now, "write it anew: MIZAR_WRITE_KINDS=1");
    Ok(())
}
