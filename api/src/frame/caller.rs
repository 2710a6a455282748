//! Who makes a request, and what that allows.

use super::fault::Fault;
use crate::app::App;
use crate::identity::token::{Claims, TokenError};
use crate::observe;
use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};
use futures::future::LocalBoxFuture;
use mizar_db::listing::Visibility;
use uuid::Uuid;

/// A role of the identity service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything, in every project.
    Admin,
    /// A member who also writes what is for the managers of its project.
    Manager,
    /// Reads and writes in its project.
    Member,
    /// Reads in its project.
    Reader,
    /// Another service of the cloud: reads everything, binds ports.
    Service,
}

impl Role {
    /// All, in the order in which they are listed.
    pub const ALL: [Self; 5] = [Self::Admin, Self::Manager, Self::Member, Self::Reader, Self::Service];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Manager => "manager",
            Self::Member => "member",
            Self::Reader => "reader",
            Self::Service => "service",
        }
    }

    /// The role of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// Keystone gives roles ids; ours are made of the name, the same in every cloud.
    pub fn id(self) -> Uuid {
        let mut bytes = [0; 16];
        let name = self.as_str().as_bytes();
        bytes[..name.len()].copy_from_slice(name);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }
}

/// What a request needs. Data, not code: attribute maps and resources name one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Any role.
    Reader,
    /// Member, manager, administrator, or service where the resource is open to services.
    Writer,
    /// Manager or administrator.
    Manager,
    /// Administrator or service.
    Privileged,
    /// Administrator.
    Admin,
}

/// The account behind a request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// What its token says.
    pub claims: Claims,
    roles: Vec<Role>,
}

impl Caller {
    /// From a token that was verified.
    pub fn new(claims: Claims) -> Self {
        // A role on a domain says nothing about networks, which belong to projects.
        let of_domain = claims.domain.is_some();
        let named = claims.roles.iter().filter(|_| !of_domain).filter_map(|role| Role::named(&role.name));
        Self { roles: named.collect(), claims }
    }

    /// Whether it has a role.
    pub fn is(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Whether its roles suffice, whatever project the object belongs to.
    pub fn has(&self, access: Access) -> bool {
        match access {
            Access::Reader => !self.roles.is_empty(),
            Access::Writer => {
                [Role::Admin, Role::Manager, Role::Member, Role::Service].into_iter().any(|role| self.is(role))
            }
            Access::Manager => self.is(Role::Admin) || self.is(Role::Manager),
            Access::Privileged => self.is(Role::Admin) || self.is(Role::Service),
            Access::Admin => self.is(Role::Admin),
        }
    }

    /// The project that the token is for.
    pub fn project(&self) -> Option<Uuid> {
        self.claims.project_id()
    }

    /// Whose objects it may change where that is not every service's: it sees more than this.
    pub fn own(&self) -> Visibility {
        match self.project() {
            _ if self.has(Access::Admin) => Visibility::All,
            Some(project) => Visibility::Project(project),
            None => Visibility::Nothing,
        }
    }

    /// Whose objects it sees.
    pub fn view(&self) -> Visibility {
        if self.has(Access::Privileged) {
            return Visibility::All;
        }
        match self.project() {
            Some(project) if self.has(Access::Reader) => Visibility::Project(project),
            _ => Visibility::Nothing,
        }
    }
}

/// `X-Auth-Token`, verified.
impl FromRequest for Caller {
    type Error = Fault;
    type Future = LocalBoxFuture<'static, Result<Self, Fault>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { authenticate(&request).await })
    }
}

/// The account of a request's token.
pub(super) async fn authenticate(request: &HttpRequest) -> Result<Caller, Fault> {
    let refused = || Fault::unauthorized("The request you have made requires authentication.");
    let app = request.app_data::<web::Data<App>>().ok_or_else(|| Fault::internal("the application has no state"))?;
    let token = request.headers().get("X-Auth-Token").ok_or_else(refused)?;
    let token = token.to_str().map_err(|_| refused())?;
    let verified = app.authority.verify(token, || app.limiter.toll(request)).await;
    let claims = verified.map_err(|error| match error {
        TokenError::Unavailable(cause) => Fault::unavailable(cause).of_identity(),
        TokenError::Flood(wait) => {
            app.metrics.refused("unknown_tokens");
            Fault::too_many(wait).of_identity()
        }
        _ => refused(),
    })?;
    let caller = Caller::new(claims);
    observe::admit(app, request, &caller)?;
    Ok(caller)
}
