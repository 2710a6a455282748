//! How to reach a cloud: where it is, whom it trusts, who calls.

use anyhow::{Context, Result, bail};
use reqwest::blocking::{Client, ClientBuilder};
use serde_json::{Value, json};
use std::fmt;
use std::path::{Path, PathBuf};

/// Who calls, and in which project: the body of Keystone's `POST /v3/auth/tokens`.
#[derive(Clone, PartialEq)]
pub struct Credentials {
    who: String,
    auth: Value,
}

impl Credentials {
    /// A user of domain `Default`, scoped to a project of it.
    pub fn new(user: &str, project: &str, password: &str) -> Self {
        let domain = json!({"id": "default"});
        let identity = json!({"methods": ["password"],
            "password": {"user": {"name": user, "domain": domain, "password": password}}});
        let scope = json!({"project": {"name": project, "domain": domain}});
        Self::of(format!("{user} in project {project}"), identity, Some(scope))
    }

    /// `identity` and `scope` as Keystone has them; `who` is for people and holds no secret.
    pub fn of(who: String, identity: Value, scope: Option<Value>) -> Self {
        let mut auth = json!({"identity": identity});
        if let Some(scope) = scope {
            auth["scope"] = scope;
        }
        Self { who, auth }
    }

    /// Who, for people.
    pub fn who(&self) -> &str {
        &self.who
    }

    pub(crate) fn request(&self) -> Value {
        json!({"auth": self.auth})
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("who", &self.who).finish_non_exhaustive()
    }
}

/// Whose certificates count, and which one to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Instead of the system's (PEM).
    pub ca: Option<PathBuf>,
    /// Certificate and key of the caller (PEM).
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Any certificate counts.
    pub insecure: bool,
}

impl Trust {
    /// A client that trusts so.
    pub fn client(&self) -> Result<ClientBuilder> {
        let mut builder = Client::builder().tls_danger_accept_invalid_certs(self.insecure);
        if let Some(ca) = &self.ca {
            let bundle = reqwest::Certificate::from_pem_bundle(&read(ca)?);
            builder = builder.tls_certs_only(bundle.with_context(|| format!("{}: no certificates", ca.display()))?);
        }
        if let Some((certificate, key)) = &self.certificate {
            let mut pem = read(certificate)?;
            pem.push(b'\n');
            pem.extend(read(key)?);
            let identity = reqwest::Identity::from_pem(&pem);
            let both = || format!("{} and {}: not a certificate and its key", certificate.display(), key.display());
            builder = builder.identity(identity.with_context(both)?);
        }
        Ok(builder)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A cloud, and who calls.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    /// Base of the identity service's addresses, without `/v3`.
    pub identity: String,
    /// Base of the network service's, if the catalog's does not count.
    pub network: Option<String>,
    /// Which endpoint of the catalog: public, internal or admin.
    pub interface: String,
    /// Which region of the catalog; otherwise any.
    pub region: Option<String>,
    /// Certificates.
    pub trust: Trust,
    /// Who.
    pub credentials: Credentials,
}

impl Access {
    /// Both services below one base.
    pub fn of_base(base: &str, credentials: Credentials) -> Self {
        Self {
            identity: base.into(),
            network: Some(base.into()),
            interface: "public".into(),
            region: None,
            trust: Trust::default(),
            credentials,
        }
    }

    /// Base of the network service's addresses, without `/v2.0`, as a token's catalog says.
    pub(super) fn network_of(&self, token: &Value) -> Result<String> {
        if let Some(network) = &self.network {
            return Ok(without(network, "/v2.0"));
        }
        let services = token.pointer("/token/catalog").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let endpoints = services.iter().filter(|service| service["type"] == "network");
        let mut endpoints = endpoints.flat_map(|service| service["endpoints"].as_array().into_iter().flatten());
        let fits = |endpoint: &&Value| {
            let region = self.region.as_deref();
            endpoint["interface"] == self.interface.as_str()
                && region.is_none_or(|region| endpoint["region_id"] == region || endpoint["region"] == region)
        };
        let Some(url) = endpoints.find(fits).and_then(|endpoint| endpoint["url"].as_str()) else {
            let region = self.region.as_deref().map_or(String::new(), |region| format!(" in region {region}"));
            bail!("the catalog has no {} endpoint of a network service{region}", self.interface);
        };
        Ok(without(url, "/v2.0"))
    }
}

/// An address without its version, which paths begin with.
pub fn without(url: &str, version: &str) -> String {
    let url = url.trim_end_matches('/');
    url.strip_suffix(version).unwrap_or(url).trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(region: Option<&str>, interface: &str) -> Access {
        let mut access = Access::of_base("http://identity", Credentials::new("u", "p", "hidden"));
        (access.network, access.region, access.interface) = (None, region.map(str::to_owned), interface.to_owned());
        access
    }

    fn token() -> Value {
        let endpoint =
            |region: &str, interface: &str, url: &str| json!({"region_id": region, "interface": interface, "url": url});
        json!({"token": {"catalog": [
            {"type": "identity", "endpoints": [endpoint("one", "public", "http://no")]},
            {"type": "network", "endpoints": [endpoint("one", "internal", "http://inside:9696/"),
                endpoint("one", "public", "http://one:9696/v2.0/"), endpoint("two", "public", "http://two/net")]},
        ]}})
    }

    #[test]
    fn the_catalog_says_where_the_network_service_is() -> Result<()> {
        assert_eq!(access(None, "public").network_of(&token())?, "http://one:9696");
        assert_eq!(access(Some("two"), "public").network_of(&token())?, "http://two/net");
        assert_eq!(access(None, "internal").network_of(&token())?, "http://inside:9696");
        let missing = access(Some("three"), "public").network_of(&token()).expect_err("there is none");
        assert_eq!(missing.to_string(), "the catalog has no public endpoint of a network service in region three");
        Ok(())
    }

    #[test]
    fn credentials_show_no_secret() {
        let shown = format!("{:?}", access(None, "public"));
        assert!(shown.contains("u in project p") && !shown.contains("hidden"), "{shown}");
    }
}
