//! `clouds.yaml` and `secure.yaml`: where they are, and strict decoding.
//!
//! Other clients read the same files, so what only they know is let pass by its known name; what
//! nobody knows is refused, for it is a name misspelt that would be missed silently.

use super::{AUTH, OTHERS, Settings, Source, Surroundings};
use crate::command::failure::{Exit, Problem};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What other clients' settings end with.
const FOREIGN_ENDS: [&str; 8] = [
    "_api_version",
    "_endpoint_override",
    "_service_name",
    "_service_type",
    "_interface",
    "_region_name",
    "_min_version",
    "_max_version",
];

/// Other clients' settings.
const FOREIGN: [&str; 21] = [
    "api_timeout",
    "app_name",
    "app_version",
    "auth_methods",
    "cloud",
    "cache",
    "client_config",
    "disable_vendor_agent",
    "extra_config",
    "floating_ip_source",
    "force_ipv4",
    "image_format",
    "message",
    "nat_source",
    "networks",
    "object_store_endpoint",
    "regions",
    "requires_floating_ip",
    "secgroup_source",
    "status",
    "timeout",
];

/// The clouds of a file.
#[derive(Clone, Debug)]
pub struct Clouds {
    path: PathBuf,
    clouds: Map<String, Value>,
    secure: Option<(PathBuf, Map<String, Value>)>,
}

/// The first file there is, with the secrets beside it.
pub fn read(around: &Surroundings) -> Result<Option<Clouds>, Problem> {
    let first = |variable: &str, names: [&str; 2]| match around.variable(variable) {
        // Named, so it must be there: another file would be another cloud.
        Some(path) => Some(around.directory.join(path)),
        None => {
            around.directories().iter().flat_map(|dir| names.map(|name| dir.join(name))).find(|path| path.is_file())
        }
    };
    let Some(path) = first("OS_CLIENT_CONFIG_FILE", ["clouds.yaml", "clouds.yml"]) else { return Ok(None) };
    let clouds = clouds_of(&path)?;
    let secure = first("OS_CLIENT_SECURE_FILE", ["secure.yaml", "secure.yml"]);
    let secure = secure.map(|path| Ok::<_, Problem>((path.clone(), clouds_of(&path)?))).transpose()?;
    Ok(Some(Clouds { path, clouds, secure }))
}

fn refused(path: &Path, what: impl std::fmt::Display) -> Problem {
    Problem::new(Exit::Usage, format!("{}: {what}", path.display()))
}

fn clouds_of(path: &Path) -> Result<Map<String, Value>, Problem> {
    let text = std::fs::read_to_string(path).map_err(|error| refused(path, error))?;
    // The parser's message would quote the line, and lines here hold passwords.
    let file: Value = serde_saphyr::from_str(&text).map_err(|error| {
        let at = error.location().map_or(String::new(), |at| format!(", line {}, column {}", at.line(), at.column()));
        refused(path, format!("not YAML, or a name twice{at}"))
    })?;
    let Value::Object(mut file) = file else {
        return Err(refused(path, "must have `clouds:` with a block per cloud below it"));
    };
    match file.remove("clouds") {
        Some(Value::Object(clouds)) => Ok(clouds),
        Some(_) => Err(refused(path, "clouds: must be a block with a name per cloud")),
        None => Err(refused(path, "clouds: missing")),
    }
}

impl Clouds {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of its clouds.
    pub fn names(&self) -> Vec<String> {
        self.clouds.keys().cloned().collect()
    }

    /// A cloud's settings.
    pub(super) fn cloud(&self, name: &str) -> Result<Settings, Problem> {
        let Some(cloud) = self.clouds.get(name) else {
            let problem = refused(&self.path, format!("there is no cloud {name}"));
            return Err(problem.hint(format!("it has {}", self.names().join(", "))));
        };
        let mut settings = decode(&self.path, name, cloud)?;
        if let Some((path, clouds)) = &self.secure
            && let Some(secret) = clouds.get(name)
        {
            let secret = decode(path, name, secret)?;
            settings.auth.extend(secret.auth);
            settings.others.extend(secret.others);
        }
        Ok(settings)
    }
}

fn decode(path: &Path, cloud: &str, value: &Value) -> Result<Settings, Problem> {
    let source = Source::File { path: path.to_owned(), cloud: cloud.to_owned() };
    let block = |value: &Value, name: String| match value {
        Value::Object(map) => Ok(map.clone()),
        _ => Err(Problem::new(Exit::Usage, format!("{name}: must be a block of settings"))),
    };
    let (mut auth, mut others) = (BTreeMap::new(), BTreeMap::new());
    for (name, value) in block(value, format!("{}: clouds.{cloud}", path.display()))? {
        let place = source.setting(&name);
        if name == "auth" {
            for (name, value) in block(&value, place)? {
                let place = source.auth(&name);
                if !AUTH.contains(&name.as_str()) {
                    let problem = Problem::new(Exit::Usage, format!("{place}: there is no such setting"));
                    return Err(problem.hint(format!("known are {}", AUTH.join(", "))));
                }
                auth.insert(name, text(&place, &value)?);
            }
        } else if OTHERS.contains(&name.as_str()) {
            others.insert(name, scalar(&place, &value)?);
        } else if name == "profile" {
            let problem = Problem::new(Exit::Usage, format!("{place}: vendors' profiles are not known here"));
            return Err(problem.hint("write auth_url and region_name into the cloud itself"));
        } else if !FOREIGN.contains(&name.as_str()) && !FOREIGN_ENDS.iter().any(|end| name.ends_with(end)) {
            let problem = Problem::new(Exit::Usage, format!("{place}: there is no such setting"));
            return Err(problem.hint(format!("known are auth, {}", OTHERS.join(", "))));
        }
    }
    Ok(Settings { source, auth, others })
}

/// A number would have lost its leading zeros by now.
fn text(place: &str, value: &Value) -> Result<String, Problem> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => {
            Err(Problem::new(Exit::Usage, format!("{place}: must be text")).hint("put it in quotes"))
        }
        _ => Err(Problem::new(Exit::Usage, format!("{place}: must be text"))),
    }
}

fn scalar(place: &str, value: &Value) -> Result<String, Problem> {
    match value {
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        other => text(place, other),
    }
}
