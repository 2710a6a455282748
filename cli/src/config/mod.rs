//! Which cloud, and who calls: from `clouds.yaml` or from `OS_*`, as OpenStack's own clients do it.
//!
//! A cloud that is named (`--os-cloud`, `OS_CLOUD`) is taken whole from `clouds.yaml`; of the
//! environment it takes a secret that it leaves out, and nothing else: a mixture of two accounts
//! would be nobody's. Without a name the environment counts, if it has `OS_AUTH_URL`; else the only
//! cloud of `clouds.yaml`. Flags replace the project of either.

mod decide;
mod files;

use crate::client::Access;
use crate::command::failure::{Exit, Problem};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What flags say. Their ids are theirs alone, for they are arguments of every verb.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Choice {
    /// Cloud of clouds.yaml.
    #[arg(id = "os-cloud", long, value_name = "CLOUD", global = true, help_heading = "Cloud")]
    pub cloud: Option<String>,
    /// Project by name, instead of the cloud's.
    #[arg(
        id = "os-project-name",
        long,
        value_name = "NAME",
        global = true,
        help_heading = "Cloud",
        conflicts_with = "os-project-id"
    )]
    pub project_name: Option<String>,
    /// Project by id, instead of the cloud's.
    #[arg(id = "os-project-id", long, value_name = "ID", global = true, help_heading = "Cloud")]
    pub project_id: Option<String>,
}

/// Where a program looks: its environment and its directory.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Environment.
    pub variables: BTreeMap<String, String>,
    /// Working directory.
    pub directory: PathBuf,
    /// The site's configuration.
    pub site: PathBuf,
}

impl Surroundings {
    /// This process's.
    pub fn of_this_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self {
            variables: std::env::vars_os().filter_map(text).collect(),
            directory: PathBuf::new(),
            site: PathBuf::from("/etc/openstack"),
        }
    }

    /// A variable; an empty one counts as none, as in shell scripts that clear it so.
    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Directories of configuration, the first that has a file counts.
    fn directories(&self) -> Vec<PathBuf> {
        let home = self.variable("HOME").map(|home| Path::new(home).join(".config"));
        let user = self.variable("XDG_CONFIG_HOME").map(PathBuf::from).or(home);
        let user = user.map(|user| user.join("openstack"));
        [Some(self.directory.clone()), user, Some(self.site.clone())].into_iter().flatten().collect()
    }
}

/// Where a setting is from: errors name it so that it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A cloud of a file.
    File {
        /// The file.
        path: PathBuf,
        /// The cloud's name in it.
        cloud: String,
    },
    /// `OS_*`.
    Environment,
}

impl Source {
    /// A setting of `auth`, as the source calls it.
    fn auth(&self, name: &str) -> String {
        match self {
            Self::File { path, cloud } => format!("{}: clouds.{cloud}.auth.{name}", path.display()),
            Self::Environment => format!("OS_{}", name.to_uppercase()),
        }
    }

    /// Another setting, as the source calls it.
    fn setting(&self, name: &str) -> String {
        match self {
            Self::File { path, cloud } => format!("{}: clouds.{cloud}.{name}", path.display()),
            Self::Environment => format!("OS_{}", name.to_uppercase()),
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { path, cloud } => write!(f, "cloud {cloud} of {}", path.display()),
            Self::Environment => f.write_str("OS_* of the environment"),
        }
    }
}

/// Settings by their names in `clouds.yaml`, whatever they are from.
#[derive(Clone, Debug)]
struct Settings {
    source: Source,
    auth: BTreeMap<String, String>,
    others: BTreeMap<String, String>,
}

/// A cloud with its source.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// How to reach it.
    pub access: Access,
    /// Where that is written.
    pub source: Source,
}

/// Settings of `auth`, in a file and, with `OS_` before them, in the environment.
const AUTH: [&str; 20] = [
    "auth_url",
    "username",
    "user_id",
    "password",
    "user_domain_name",
    "user_domain_id",
    "project_name",
    "project_id",
    "project_domain_name",
    "project_domain_id",
    "domain_name",
    "domain_id",
    "default_domain",
    "tenant_name",
    "tenant_id",
    "application_credential_id",
    "application_credential_name",
    "application_credential_secret",
    "token",
    "system_scope",
];

/// Settings beside `auth` that are acted on.
const OTHERS: [&str; 11] = [
    "auth_type",
    "region_name",
    "interface",
    "endpoint_type",
    "verify",
    "insecure",
    "cacert",
    "cert",
    "key",
    "identity_api_version",
    "network_endpoint_override",
];

/// What a cloud may take from the environment.
const SECRETS: [&str; 3] = ["password", "application_credential_secret", "token"];

/// The cloud that is meant.
pub fn find(choice: &Choice, around: &Surroundings) -> Result<Found, Problem> {
    let settings = settings(choice, around)?;
    let access = decide::access(choice, &settings)?;
    Ok(Found { access, source: settings.source })
}

fn settings(choice: &Choice, around: &Surroundings) -> Result<Settings, Problem> {
    let named = choice.cloud.as_deref().or(around.variable("OS_CLOUD"));
    if let Some(cloud) = named {
        let Some(clouds) = files::read(around)? else { return Err(no_file(cloud, around)) };
        let mut settings = clouds.cloud(cloud)?;
        for secret in SECRETS {
            if let Some(value) = around.variable(&format!("OS_{}", secret.to_uppercase())) {
                settings.auth.entry(secret.to_owned()).or_insert_with(|| value.to_owned());
            }
        }
        return Ok(settings);
    }
    if around.variable("OS_AUTH_URL").is_some() {
        return Ok(of_environment(around));
    }
    match files::read(around)?.as_ref().map(|clouds| (clouds, clouds.names())) {
        Some((clouds, names)) => match names.as_slice() {
            [only] => clouds.cloud(only),
            names => Err(Problem::new(Exit::Usage, "no cloud is named").hint(format!(
                "say --os-cloud NAME or set OS_CLOUD: {} has {}",
                clouds.path().display(),
                names.join(", ")
            ))),
        },
        None => Err(Problem::new(Exit::Usage, "no cloud is known").hint(format!(
            "write a clouds.yaml ({}), or set OS_AUTH_URL, OS_USERNAME, OS_PASSWORD and OS_PROJECT_NAME",
            looked(around)
        ))),
    }
}

fn of_environment(around: &Surroundings) -> Settings {
    let collect = |names: &[&str]| {
        let value = |name: &&str| {
            Some(((*name).to_owned(), around.variable(&format!("OS_{}", name.to_uppercase()))?.to_owned()))
        };
        names.iter().filter_map(value).collect()
    };
    Settings { source: Source::Environment, auth: collect(&AUTH), others: collect(&OTHERS) }
}

fn looked(around: &Surroundings) -> String {
    let places: Vec<_> = around.directories().iter().map(|dir| dir.join("clouds.yaml").display().to_string()).collect();
    format!("looked for {}", places.join(", "))
}

fn no_file(cloud: &str, around: &Surroundings) -> Problem {
    Problem::new(Exit::Usage, format!("cloud {cloud} is named, but there is no clouds.yaml"))
        .hint(format!("{}; another place: OS_CLIENT_CONFIG_FILE", looked(around)))
}

#[cfg(test)]
mod tests;
