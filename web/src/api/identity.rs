//! Signing in (Keystone v3): a password brings a token, a token brings one for another project.

use super::{Api, CallError, Calls, Query, objects, read, unreachable};
use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;

/// An id with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// A token, and what it is for.
#[derive(Clone)]
pub struct Grant {
    /// The token itself.
    pub token: Arc<str>,
    /// Whose it is.
    pub user: Named,
    /// For which project, if for one.
    pub project: Option<Named>,
    /// The user's roles there.
    pub roles: Vec<String>,
    /// Until when it counts.
    pub expires_at: DateTime<Utc>,
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grant").field("user", &self.user).field("project", &self.project).finish_non_exhaustive()
    }
}

fn named(value: &Value) -> Option<Named> {
    Some(Named { id: value["id"].as_str()?.to_owned(), name: value["name"].as_str()?.to_owned() })
}

impl Api {
    /// Proves who the user is; the token is for the user's default project, if there is one.
    pub async fn sign_in(
        &self,
        domain: &str,
        user: &str,
        password: &str,
        from: Option<IpAddr>,
    ) -> Result<Grant, CallError> {
        let user = json!({"name": user, "domain": {"name": domain}, "password": password});
        self.grant(json!({"identity": {"methods": ["password"], "password": {"user": user}}}), from).await
    }

    async fn grant(&self, auth: Value, from: Option<IpAddr>) -> Result<Grant, CallError> {
        let request = self.request(Method::POST, "/v3/auth/tokens?nocatalog", from).json(&json!({"auth": auth}));
        let response = request.send().await.map_err(unreachable)?;
        let token = response.headers().get("X-Subject-Token").and_then(|token| token.to_str().ok()).map(Arc::from);
        let said = read(response).await?;
        let understood = || {
            let said = said.get("token")?;
            let roles = said["roles"].as_array().map(Vec::as_slice).unwrap_or_default();
            Some(Grant {
                token: token?,
                user: named(&said["user"])?,
                project: named(&said["project"]),
                roles: roles.iter().filter_map(|role| Some(role["name"].as_str()?.to_owned())).collect(),
                expires_at: DateTime::parse_from_rfc3339(said["expires_at"].as_str()?).ok()?.to_utc(),
            })
        };
        understood().ok_or_else(|| CallError::NotUnderstood("no token".into()))
    }
}

impl Calls {
    /// A token for a project, got by the one that there is.
    pub async fn for_project(&self, project: &str) -> Result<Grant, CallError> {
        let auth = json!({
            "identity": {"methods": ["token"], "token": {"id": &*self.token}},
            "scope": {"project": {"id": project}},
        });
        self.api.grant(auth, self.from).await
    }

    /// The projects in which the user has a role, by name.
    pub async fn projects(&self) -> Result<Vec<Named>, CallError> {
        let listed = objects(&mut self.get("/v3/auth/projects", &Query::new()).await?, "projects")?;
        let mut projects: Vec<Named> = listed.iter().filter_map(named).collect();
        projects.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(projects)
    }

    /// Makes the token worthless.
    pub async fn sign_out(&self) -> Result<(), CallError> {
        let request = self.request(Method::DELETE, "/v3/auth/tokens").header("X-Subject-Token", &*self.token);
        self.send(request).await.map(drop)
    }
}
