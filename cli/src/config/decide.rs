//! From settings to how a cloud is reached.

use super::{Choice, Settings};
use crate::client::access::without;
use crate::client::{Access, Credentials, Trust};
use crate::command::failure::{Exit, Problem};
use serde_json::{Value, json};
use std::path::PathBuf;

/// How the cloud is reached.
pub fn access(choice: &Choice, settings: &Settings) -> Result<Access, Problem> {
    let other = |name: &str| settings.others.get(name).map(String::as_str);
    if let Some(version) = other("identity_api_version").filter(|version| *version != "3" && !version.starts_with("3."))
    {
        let place = settings.source.setting("identity_api_version");
        return Err(Problem::new(Exit::Usage, format!("{place}: {version} is not spoken here, only 3")));
    }
    let interface = other("interface").or(other("endpoint_type")).unwrap_or("public");
    let interface = interface.strip_suffix("URL").unwrap_or(interface);
    if !["public", "internal", "admin"].contains(&interface) {
        let place = settings.source.setting("interface");
        return Err(Problem::new(Exit::Usage, format!("{place}: `{interface}` is not public, internal or admin")));
    }
    Ok(Access {
        identity: without(&url(settings)?, "/v3"),
        network: other("network_endpoint_override").map(str::to_owned),
        interface: interface.to_owned(),
        region: other("region_name").map(str::to_owned),
        trust: trust(settings)?,
        credentials: credentials(choice, settings)?,
    })
}

fn url(settings: &Settings) -> Result<String, Problem> {
    let place = settings.source.auth("auth_url");
    let Some(url) = settings.auth.get("auth_url") else {
        return Err(
            Problem::new(Exit::Usage, format!("{place}: missing")).hint("such as https://cloud.example:5000/v3")
        );
    };
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(Problem::new(Exit::Usage, format!("{place}: `{url}` must begin with http:// or https://")));
    }
    Ok(url.clone())
}

fn trust(settings: &Settings) -> Result<Trust, Problem> {
    let flag = |name: &str| -> Result<Option<bool>, Problem> {
        let Some(word) = settings.others.get(name) else { return Ok(None) };
        match word.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok(Some(true)),
            "false" | "no" | "off" | "0" => Ok(Some(false)),
            _ => {
                let place = settings.source.setting(name);
                Err(Problem::new(Exit::Usage, format!("{place}: `{word}` is neither true nor false")))
            }
        }
    };
    let path = |name: &str| settings.others.get(name).map(PathBuf::from);
    let insecure = flag("insecure")?.or(flag("verify")?.map(|verify| !verify)).unwrap_or(false);
    let certificate = match (path("cert"), path("key")) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(_), None) => return Err(missing(settings.source.setting("key"), "cert comes with its key")),
        (None, Some(_)) => return Err(missing(settings.source.setting("cert"), "key comes with its certificate")),
    };
    Ok(Trust { ca: path("cacert"), certificate, insecure })
}

fn missing(place: String, why: &str) -> Problem {
    Problem::new(Exit::Usage, format!("{place}: missing")).hint(why)
}

/// Ways of signing in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Password,
    ApplicationCredential,
    Token,
}

fn way(settings: &Settings) -> Result<Way, Problem> {
    let has = |name: &str| settings.auth.contains_key(name);
    match settings.others.get("auth_type").map(String::as_str) {
        Some("password" | "v3password") => Ok(Way::Password),
        Some("v3applicationcredential") => Ok(Way::ApplicationCredential),
        Some("token" | "v3token") => Ok(Way::Token),
        Some(other) => {
            let place = settings.source.setting("auth_type");
            let problem = Problem::new(Exit::Usage, format!("{place}: `{other}` is not known"));
            Err(problem.hint("known are password, v3applicationcredential and token"))
        }
        None if has("application_credential_id") || has("application_credential_name") => {
            Ok(Way::ApplicationCredential)
        }
        None if has("token") && !has("username") && !has("user_id") => Ok(Way::Token),
        None => Ok(Way::Password),
    }
}

fn credentials(choice: &Choice, settings: &Settings) -> Result<Credentials, Problem> {
    let auth = |name: &str| settings.auth.get(name).map(String::as_str);
    let secret = |name: &str| {
        let hint = match name {
            "password" => "write it there, into secure.yaml beside it, or set OS_PASSWORD",
            "token" => "write it there, or set OS_TOKEN",
            _ => "write it there, into secure.yaml beside it, or set OS_APPLICATION_CREDENTIAL_SECRET",
        };
        auth(name).ok_or_else(|| missing(settings.source.auth(name), hint))
    };
    match way(settings)? {
        Way::Password => {
            let (who, mut user) = user(settings)?;
            user["password"] = json!(secret("password")?);
            let identity = json!({"methods": ["password"], "password": {"user": user}});
            Ok(scoped(who, identity, scope(choice, settings)?))
        }
        Way::Token => {
            let identity = json!({"methods": ["token"], "token": {"id": secret("token")?}});
            Ok(scoped("the holder of a token".into(), identity, scope(choice, settings)?))
        }
        Way::ApplicationCredential => {
            if choice.project_id.is_some() || choice.project_name.is_some() {
                let problem = "--os-project-name, --os-project-id: an application credential is for one project";
                return Err(Problem::new(Exit::Usage, problem).hint("use a cloud with a password for another"));
            }
            let mut credential = json!({"secret": secret("application_credential_secret")?});
            let who = match (auth("application_credential_id"), auth("application_credential_name")) {
                (Some(id), _) => {
                    credential["id"] = json!(id);
                    format!("application credential {id}")
                }
                (None, Some(name)) => {
                    let (who, user) = user(settings)?;
                    (credential["name"], credential["user"]) = (json!(name), user);
                    format!("application credential {name} of {who}")
                }
                (None, None) => return Err(missing(settings.source.auth("application_credential_id"), "or its name")),
            };
            let identity = json!({"methods": ["application_credential"], "application_credential": credential});
            Ok(Credentials::of(who, identity, None))
        }
    }
}

fn scoped(who: String, identity: Value, scope: Option<(String, Value)>) -> Credentials {
    match scope {
        Some((what, scope)) => Credentials::of(format!("{who} in {what}"), identity, Some(scope)),
        None => Credentials::of(who, identity, None),
    }
}

/// The domain `default` unless said otherwise: Keystone calls its first one so.
fn domain(settings: &Settings, kind: &str) -> Value {
    let auth = |name: &str| settings.auth.get(name).map(String::as_str);
    match (auth(&format!("{kind}_domain_id")), auth(&format!("{kind}_domain_name"))) {
        (Some(id), _) => json!({"id": id}),
        (None, Some(name)) => json!({"name": name}),
        (None, None) => json!({"id": auth("default_domain").unwrap_or("default")}),
    }
}

fn user(settings: &Settings) -> Result<(String, Value), Problem> {
    let auth = |name: &str| settings.auth.get(name).map(String::as_str);
    match (auth("user_id"), auth("username")) {
        (Some(id), _) => Ok((format!("user {id}"), json!({"id": id}))),
        (None, Some(name)) => Ok((name.to_owned(), json!({"name": name, "domain": domain(settings, "user")}))),
        (None, None) => Err(missing(settings.source.auth("username"), "who signs in?")),
    }
}

fn scope(choice: &Choice, settings: &Settings) -> Result<Option<(String, Value)>, Problem> {
    let auth = |name: &str| settings.auth.get(name).map(String::as_str);
    let by_id = |id: &str| Some((format!("project {id}"), json!({"project": {"id": id}})));
    let by_name = |name: &str| {
        let domain = domain(settings, "project");
        Some((format!("project {name}"), json!({"project": {"name": name, "domain": domain}})))
    };
    if let Some(id) = choice.project_id.as_deref() {
        return Ok(by_id(id));
    }
    if let Some(name) = choice.project_name.as_deref() {
        return Ok(by_name(name));
    }
    if let Some(word) = auth("system_scope") {
        if word != "all" {
            let place = settings.source.auth("system_scope");
            return Err(Problem::new(Exit::Usage, format!("{place}: `{word}` is not `all`")));
        }
        return Ok(Some(("the whole system".into(), json!({"system": {"all": true}}))));
    }
    if let Some(id) = auth("project_id").or(auth("tenant_id")) {
        return Ok(by_id(id));
    }
    if let Some(name) = auth("project_name").or(auth("tenant_name")) {
        return Ok(by_name(name));
    }
    // Without any the user's default project is taken, if there is one.
    Ok(match (auth("domain_id"), auth("domain_name")) {
        (Some(id), _) => Some((format!("domain {id}"), json!({"domain": {"id": id}}))),
        (None, Some(name)) => Some((format!("domain {name}"), json!({"domain": {"name": name}}))),
        (None, None) => None,
    })
}
