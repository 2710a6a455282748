//! Projects and users (Keystone v3).

use super::{Api, refused_status};
use anyhow::{Context, Result};
use serde_json::{Value, json};

impl Api {
    /// A project and a user of the same name who is a member of it; changes nothing when both
    /// exist, but sets the password.
    pub fn ensure_tenant(&self, name: &str, password: &str) -> Result<()> {
        let project = self.ensure("project", name, json!({}))?;
        let user = self.ensure("user", name, json!({"password": password, "default_project_id": project}))?;
        let role = self.find("role", "member")?.context("the API has no role `member`")?;
        self.put(&format!("/v3/projects/{project}/users/{user}/roles/{role}"), None)?;
        Ok(())
    }

    /// Removes both.
    pub fn delete_tenant(&self, name: &str) -> Result<()> {
        for kind in ["user", "project"] {
            if let Some(id) = self.find(kind, name)? {
                self.delete(&format!("/v3/{kind}s/{id}"))?;
            }
        }
        Ok(())
    }

    fn ensure(&self, kind: &str, name: &str, more: Value) -> Result<String> {
        let mut body = json!({"name": name, "domain_id": "default"});
        body.as_object_mut().expect("made as an object").extend(more.as_object().cloned().unwrap_or_default());
        match self.post(&format!("/v3/{kind}s"), &json!({ kind: body })) {
            Ok(made) => Ok(made[kind]["id"].as_str().context("no id in the answer")?.to_owned()),
            Err(error) if refused_status(&error) == Some(409) => {
                self.find(kind, name)?.with_context(|| format!("{kind} {name} exists but is not listed"))
            }
            Err(error) => Err(error),
        }
    }

    fn find(&self, kind: &str, name: &str) -> Result<Option<String>> {
        let list = self.get(&format!("/v3/{kind}s?name={name}"))?;
        Ok(list[format!("{kind}s")][0]["id"].as_str().map(str::to_owned))
    }
}
