//! What the browser stories are told with: packages for the Node.js that Debian 12 has.

use serde_json::Value;

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
