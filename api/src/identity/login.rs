//! From proof to claims.
//!
//! No database connection is held while a secret is hashed: hashes wait for their turn, and logins
//! must not take the connections of everybody else meanwhile. What was read before is looked at
//! again, under locks, by [`grant`].

use super::common::{bad, change, connection, fault, refused};
use super::password;
use super::requests::{
    Auth, CredentialMethod, IdentityProof, PasswordMethod, TokenMethod, UserPassword, UserReference, named, target,
};
use super::token::{Claims, CredentialClaim, NamedRef, ProjectRef, Tokens};
use super::turns::Party;
use super::views::id_text;
use crate::app::App;
use crate::frame::fault::Fault;
use chrono::Utc;
use futures::FutureExt as _;
use mizar_db::identity::credentials::{self, CredentialRef, CredentialRow};
use mizar_db::identity::grants::{Grant, Proof, Scope, Target, grant};
use mizar_db::identity::{DomainRef, DomainRow, Named, users};
use std::net::IpAddr;
use uuid::Uuid;

/// Who proved what.
struct Proven {
    user: Uuid,
    proof: Proof,
    methods: Vec<String>,
    /// The token that this one is got for; this one does not live longer.
    parent: Option<Claims>,
    /// Where the request names no scope.
    scope: Target,
}

/// What a new token says that is asked for from an address.
pub(super) async fn claims(app: &App, address: Option<IpAddr>, auth: Auth) -> Result<Claims, Fault> {
    let Auth { identity, scope } = auth;
    let Proven { user, proof, methods, parent, scope: kept } = prove(app, address, identity).await?;
    let wanted = match scope {
        None => kept,
        Some(scope) => target(scope)?.ok_or_else(refused)?,
    };
    // Whoever can prove it is the user counts, and nobody else: strangers cannot use this up.
    if let Err(wait) = app.limiter.token(user) {
        app.metrics.refused("tokens");
        return Err(Fault::too_many(wait).of_identity());
    }
    let credential = match &proof {
        // A credential stands for one project.
        Proof::Credential(row) if wanted != Target::Project(Named::Id(row.project_id)) => return Err(refused()),
        Proof::Credential(row) => Some(row.clone()),
        Proof::Password(_) | Proof::Token => None,
    };
    let from = parent.as_ref().map(Claims::issued);
    let granted = change(app, move |conn| {
        let (proof, from, wanted) = (proof.clone(), from.clone(), wanted.clone());
        async move { Ok(grant(conn, user, &proof, from.as_ref(), &wanted).await?) }.boxed()
    });
    let granted = granted.await?.ok_or_else(refused)?;
    Ok(said(app, granted, credential, methods, parent))
}

fn named_ref(domain: DomainRow) -> NamedRef {
    NamedRef { id: domain.id, name: domain.name }
}

fn said(
    app: &App,
    granted: Grant,
    credential: Option<CredentialRow>,
    methods: Vec<String>,
    parent: Option<Claims>,
) -> Claims {
    let Grant { user, domain, scope, roles, issued_at } = granted;
    let ttl = i64::try_from(app.settings.token_ttl.as_secs()).unwrap_or(i64::MAX);
    let iat = issued_at.timestamp();
    let mut openstack_audit_ids = vec![Tokens::audit_id()];
    let mut exp = iat.saturating_add(ttl);
    if let Some(parent) = parent {
        // The first of the chain is the last that each names.
        openstack_audit_ids.extend(parent.openstack_audit_ids.last().cloned());
        exp = exp.min(parent.exp);
    }
    if let Some(ends) = credential.as_ref().and_then(|row| row.expires_at) {
        exp = exp.min(ends.timestamp());
    }
    let mut claims = Claims {
        sub: id_text(user.id),
        iat,
        exp,
        openstack_methods: methods,
        openstack_audit_ids,
        openstack_project_id: None,
        user_name: user.name,
        user_domain: named_ref(domain),
        project: None,
        domain: None,
        system: false,
        roles: roles.into_iter().map(|role| NamedRef { id: id_text(role.id), name: role.name }).collect(),
        credential: credential.map(|row| CredentialClaim {
            id: id_text(row.id),
            name: row.name,
            restricted: !row.unrestricted,
        }),
        issued_us: issued_at.timestamp_micros(),
    };
    match scope {
        Scope::Unscoped => {}
        Scope::System => claims.system = true,
        Scope::Domain(domain) => claims.domain = Some(named_ref(domain)),
        Scope::Project(project, domain) => {
            let id = id_text(project.id);
            claims.openstack_project_id = Some(id.clone());
            claims.project = Some(ProjectRef { id, name: project.name, domain: named_ref(domain) });
        }
    }
    claims
}

async fn prove(app: &App, address: Option<IpAddr>, identity: IdentityProof) -> Result<Proven, Fault> {
    let IdentityProof { methods, password, token, application_credential } = identity;
    match (methods.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), password, token, application_credential) {
        (["password"], Some(PasswordMethod { user }), ..) => by_password(app, address, user).await,
        (["token"], _, Some(token), _) => by_token(app, token).await,
        (["application_credential"], .., Some(credential)) => by_credential(app, address, credential).await,
        ([], ..) => Err(bad("identity.methods is empty")),
        _ => Err(refused()),
    }
}

async fn by_password(app: &App, address: Option<IpAddr>, request: UserPassword) -> Result<Proven, Fault> {
    let UserPassword { id, name, domain, password } = request;
    if password.len() > password::PASSWORD_MAX {
        return Err(refused());
    }
    let sent = UserReference { id, name, domain };
    let party = Party::naming(address, &sent);
    let found = match named(sent.id, sent.name, sent.domain)? {
        Some(named) => users::find(&mut *connection(app).await?, &named).await.map_err(fault)?,
        None => None,
    };
    let stored = found.as_ref().and_then(|(user, _)| user.password_hash.clone());
    let fits = app.passwords.verify(party, password, stored.clone()).await?;
    match (found, stored) {
        (Some((user, _)), Some(hash)) if fits => Ok(Proven {
            user: user.id,
            proof: Proof::Password(hash),
            methods: vec!["password".into()],
            parent: None,
            scope: Target::Default,
        }),
        _ => Err(refused()),
    }
}

async fn by_token(app: &App, TokenMethod { id }: TokenMethod) -> Result<Proven, Fault> {
    let claims = app.tokens()?.verify(&id).map_err(|_| refused())?;
    let scope = match (&claims.domain, claims.project_id()) {
        (Some(domain), _) => Target::Domain(DomainRef::Id(domain.id.clone())),
        (None, Some(project)) => Target::Project(Named::Id(project)),
        (None, None) if claims.system => Target::System,
        (None, None) => Target::Unscoped,
    };
    let proof = match &claims.credential {
        None => Proof::Token,
        // What comes from a credential stays bound to it.
        Some(credential) => {
            let id = Uuid::parse_str(&credential.id).map_err(|_| refused())?;
            let found = credentials::find(&mut *connection(app).await?, &CredentialRef::Id(id)).await.map_err(fault)?;
            Proof::Credential(found.ok_or_else(refused)?)
        }
    };
    let user = claims.user_id().ok_or_else(refused)?;
    let mut methods = claims.openstack_methods.clone();
    if !methods.iter().any(|method| method == "token") {
        methods.push("token".into());
    }
    Ok(Proven { user, proof, methods, parent: Some(claims), scope })
}

async fn by_credential(app: &App, address: Option<IpAddr>, request: CredentialMethod) -> Result<Proven, Fault> {
    let CredentialMethod { id, name, user, secret } = request;
    if secret.len() > password::PASSWORD_MAX || name.as_ref().is_some_and(|name| name.contains('\0')) {
        return Err(refused());
    }
    let by_id = id.is_some();
    let party = match (&id, &user) {
        (Some(id), _) => Party::naming(address, &UserReference::of_id(id)),
        (None, user) => Party::naming(address, user),
    };
    let found = match (id, name, user) {
        (Some(id), ..) => match Uuid::parse_str(&id) {
            Ok(id) => find(app, &CredentialRef::Id(id)).await?,
            Err(_) => None,
        },
        (None, Some(name), Some(UserReference { id, name: user, domain })) => {
            let user = match named(id, user, domain)? {
                Some(Named::Id(id)) => Some(id),
                Some(named) => {
                    let found = users::find(&mut *connection(app).await?, &named).await.map_err(fault)?;
                    found.map(|(user, _)| user.id)
                }
                None => None,
            };
            match user {
                Some(user) => find(app, &CredentialRef::Name(user, name)).await?,
                None => None,
            }
        }
        _ => return Err(bad("an application credential needs an id, or a name and a user")),
    };
    let stored = found.as_ref().map(|row| row.secret_hash.clone());
    let fits = match &stored {
        Some(hash) if password::is_generated(hash) && password::verify_generated(&secret, hash) => true,
        // Nobody guesses an id: that it is not there, or its secret another, may be told at once. Names are
        // guessed: there an answer takes its time, whether or not there is one.
        None if by_id => false,
        Some(hash) if by_id && password::is_generated(hash) => false,
        _ => {
            let stored = stored.filter(|hash| !password::is_generated(hash));
            app.passwords.verify(party, secret, stored).await?
        }
    };
    let found = found.filter(|row| fits && row.expires_at.is_none_or(|ends| ends > Utc::now())).ok_or_else(refused)?;
    Ok(Proven {
        user: found.user_id,
        methods: vec!["application_credential".into()],
        parent: None,
        scope: Target::Project(Named::Id(found.project_id)),
        proof: Proof::Credential(found),
    })
}

async fn find(app: &App, named: &CredentialRef) -> Result<Option<CredentialRow>, Fault> {
    credentials::find(&mut *connection(app).await?, named).await.map_err(fault)
}
