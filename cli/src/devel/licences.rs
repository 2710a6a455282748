//! Licences of dependencies: each must be one that goes with Apache-2.0 in a distributed program.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::path::Path;

/// What may be linked. MPL-2.0 asks for the source of changed files of that library alone.
const ALLOWED: [&str; 15] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Zlib",
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    license_file: Option<String>,
}

/// Fails with the name of each package whose licence does not go; how many were looked at.
pub fn check(root: &Path) -> Result<usize> {
    let output = super::cargo::cargo(root)?
        .args(["metadata", "--format-version=1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"])
        .output()?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let Metadata { packages } = serde_json::from_slice(&output.stdout).context("cargo metadata is not understood")?;
    let refused: Vec<String> = packages
        .iter()
        .filter(|package| !package.license.as_deref().is_some_and(allowed))
        .map(|Package { name, version, license, license_file }| {
            let said = license.as_deref().or(license_file.as_deref()).unwrap_or("no licence");
            format!("{name} {version}: {said}")
        })
        .collect();
    if !refused.is_empty() {
        bail!("licences that are not allowed:\n{}", refused.join("\n"));
    }
    Ok(packages.len())
}

/// Whether an SPDX expression leaves a choice that is allowed. `/` is cargo's old word for OR.
fn allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    any(&mut rest) == Some(true) && rest.is_empty()
}

/// `all (OR all)*`; `None` when it cannot be read.
fn any(rest: &mut &[&str]) -> Option<bool> {
    let mut value = all(rest)?;
    while let [first, tail @ ..] = *rest
        && *first == "OR"
    {
        *rest = tail;
        let next = all(rest)?;
        value |= next;
    }
    Some(value)
}

/// `one (AND one)*`.
fn all(rest: &mut &[&str]) -> Option<bool> {
    let mut value = one(rest)?;
    while let [first, tail @ ..] = *rest
        && *first == "AND"
    {
        *rest = tail;
        let next = one(rest)?;
        value &= next;
    }
    Some(value)
}

/// `( any )`, `ID`, or `ID WITH EXCEPTION`.
fn one(rest: &mut &[&str]) -> Option<bool> {
    match *rest {
        ["(", tail @ ..] => {
            *rest = tail;
            let value = any(rest)?;
            let [")", tail @ ..] = *rest else { return None };
            *rest = tail;
            Some(value)
        }
        [id, "WITH", exception, tail @ ..] => {
            *rest = tail;
            // An exception only adds permissions.
            Some(ALLOWED.contains(&format!("{id} WITH {exception}").as_str()) || ALLOWED.contains(id))
        }
        [id, tail @ ..] if !["OR", "AND", "WITH", ")"].contains(id) => {
            *rest = tail;
            Some(ALLOWED.contains(id))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_with_one_good_side_is_allowed() {
        for good in [
            "MIT",
            "MIT OR Apache-2.0",
            "MIT/Apache-2.0",
            "GPL-2.0 OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-3.0-only",
        ] {
            assert!(allowed(good), "{good}");
        }
    }

    #[test]
    fn what_binds_us_or_cannot_be_read_is_refused() {
        for bad in ["GPL-3.0-only", "MIT AND GPL-2.0", "AGPL-3.0 OR SSPL-1.0", "", "(MIT", "MIT OR", "MIT Apache-2.0"] {
            assert!(!allowed(bad), "{bad}");
        }
    }
}
