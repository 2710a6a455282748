//! Quotas: how much a project may have. Their resources are the server's to know.

use super::cloud;
use super::render::{Format, Output};
use crate::client::Api;
use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

/// Verbs of `quota`.
#[derive(Subcommand)]
pub enum Verb {
    /// Show the limits of a project.
    #[command(after_help = "Example:\n  mizar quota show --usage")]
    Show {
        /// Name or id; otherwise the project one signs in to.
        project: Option<String>,
        /// What is used of each, too.
        #[arg(long)]
        usage: bool,
        /// What counts for projects without limits of their own.
        #[arg(long, conflicts_with = "usage")]
        default: bool,
        #[command(flatten)]
        shown: Shown,
    },
    /// List the projects with limits of their own (administrators).
    #[command(after_help = "Example:\n  mizar quota list -c project_id -c port")]
    List {
        #[command(flatten)]
        shown: Shown,
    },
    /// Give a project limits of its own (administrators).
    #[command(after_help = "Example:\n  mizar quota set red network=20 port=-1")]
    Set {
        /// Name or id.
        project: String,
        /// Resource and limit; -1: as many as it likes.
        #[arg(required = true, value_name = "RESOURCE=LIMIT", value_parser = limit)]
        limits: Vec<(String, i64)>,
        /// Also below what is used already.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        shown: Shown,
    },
    /// Take a project's own limits from it (administrators).
    #[command(after_help = "Example:\n  mizar quota reset red")]
    Reset {
        /// Name or id.
        project: String,
    },
}

/// How to write it.
#[derive(Args)]
pub struct Shown {
    /// How to write it.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
    output: Format,
    /// Only this attribute; may be repeated.
    #[arg(short, long, value_name = "ATTRIBUTE")]
    column: Vec<String>,
}

impl Shown {
    fn output(self) -> Output {
        Output::new(self.output, self.column)
    }
}

fn limit(word: &str) -> Result<(String, i64), String> {
    let (resource, limit) = word.split_once('=').ok_or("is not RESOURCE=LIMIT")?;
    let limit = limit.parse().map_err(|_| format!("`{limit}` is not a whole number"))?;
    Ok((resource.replace('-', "_"), limit))
}

/// Does what the verb says.
pub fn run(api: &Api, verb: Verb) -> Result<String> {
    let path =
        |name: &str, end: &str| Ok::<_, anyhow::Error>(format!("/v2.0/quotas/{}{end}", cloud::project(api, name)?));
    match verb {
        Verb::Show { project, usage, default, shown } => {
            let end = if usage {
                "/details"
            } else if default {
                "/default"
            } else {
                ""
            };
            let project = project.map_or_else(|| api.project(), Ok)?;
            let quota = api.get(&path(&project, end)?)?["quota"].take();
            if !usage {
                return shown.output().object(&quota);
            }
            let row = |(resource, details): (&String, &Value)| json!({"resource": resource, "used": details["used"], "limit": details["limit"]});
            let rows: Vec<Value> = quota.as_object().into_iter().flatten().map(row).collect();
            shown.output().list(&rows, &["resource", "used", "limit"])
        }
        Verb::List { shown } => {
            let list = api.get("/v2.0/quotas")?["quotas"].as_array().cloned().unwrap_or_default();
            shown
                .output()
                .list(&list, &["project_id", "network", "subnet", "port", "security_group", "router", "floatingip"])
        }
        Verb::Set { project, limits, force, shown } => {
            let mut quota: Map<String, Value> = limits.into_iter().map(|(name, limit)| (name, json!(limit))).collect();
            if force {
                quota.insert("force".into(), json!(true));
            }
            let answer = api.put(&path(&project, "")?, Some(&json!({"quota": quota})))?["quota"].take();
            shown.output().object(&answer)
        }
        Verb::Reset { project } => {
            api.delete(&path(&project, "")?)?;
            Ok(String::new())
        }
    }
}
