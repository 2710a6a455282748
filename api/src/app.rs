//! What every handler shares, and how the server is put together.

use crate::agent::Probe;
use crate::exchange::Exchange;
use crate::frame::fault::Fault;
use crate::frame::handlers;
use crate::frame::quota::Quotas;
use crate::identity::authority::Authority;
use crate::identity::password::Passwords;
use crate::identity::token::Tokens;
use crate::observe::health::Readiness;
use crate::observe::limits::{Limiter, Limits};
use crate::observe::logins::limit_logins;
use crate::observe::metrics::Metrics;
use crate::observe::request::observe;
use crate::seeing::live::places::Places;
use crate::{cloud, identity, neutron, openapi, operator, resources, seeing};
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use mizar_db::DbPool;
use mizar_db::pool::PoolError;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use utoipa_swagger_ui::SwaggerUi;

/// Properties of the cloud.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where clients reach the service, without a slash at the end: for the catalog and links.
    pub public_url: String,
    /// Region in the catalog.
    pub region: String,
    /// MTU of the underlay.
    pub underlay_mtu: u32,
    /// How long a host counts as alive after it was heard of.
    pub lease: Duration,
    /// How long a token is valid.
    pub token_ttl: Duration,
    /// What callers may ask for.
    pub limits: Limits,
    /// Limits of projects that have no own.
    pub quotas: Quotas,
    /// Announce extensions too whose data plane is not there yet: for tests of clients.
    pub announce_all: bool,
}

/// State of the server.
pub struct App {
    /// Connections for commands and listings, which callers share.
    pub pool: DbPool,
    /// A few beside them for what the service itself has to know: that a token was revoked, that it is ready.
    pub own: DbPool,
    /// Says who somebody is.
    pub authority: Authority,
    /// Checks passwords, in turn.
    pub passwords: Passwords,
    /// Properties of the cloud.
    pub settings: Arc<Settings>,
    /// The agents' side of this process, if it has one.
    pub agents: Option<Probe>,
    /// Where hosts are asked, if this process can.
    pub exchange: Option<Arc<Exchange>>,
    /// Keeps one caller from taking all.
    pub limiter: Limiter,
    /// What operators see.
    pub metrics: Metrics,
    /// Whether this replica can serve.
    pub readiness: Readiness,
    /// Turns to make topologies for who has none.
    pub topologies: Semaphore,
    /// Packets that are followed.
    pub live: Places,
}

/// Connections of [`App::own`].
const OWN_CONNECTIONS: usize = 2;

/// Topologies that are made at once.
pub const TURNS: usize = 2;

impl App {
    /// A server's state, with nothing counted yet.
    pub fn new(
        pool: DbPool,
        authority: impl Into<Authority>,
        settings: Settings,
        agents: Option<Probe>,
    ) -> Result<Self, PoolError> {
        let (limiter, metrics) = (Limiter::new(&settings.limits), Metrics::new(agents.as_ref()));
        Ok(Self {
            own: pool.beside(OWN_CONNECTIONS)?,
            pool,
            authority: authority.into(),
            passwords: Passwords::default(),
            settings: Arc::new(settings),
            exchange: agents.as_ref().map(|agents| Arc::clone(agents.exchange())),
            agents,
            limiter,
            metrics,
            readiness: Readiness::default(),
            topologies: Semaphore::new(TURNS),
            live: Places::default(),
        })
    }

    /// The embedded identity service's. Its routes are there only where it is.
    pub fn tokens(&self) -> Result<&Tokens, Fault> {
        self.authority.embedded().ok_or_else(|| Fault::no_such_path().of_identity())
    }
}

/// The document at /openapi.json and a page to try it at /swagger/, without any other server.
fn swagger() -> SwaggerUi {
    SwaggerUi::new("/swagger/{_:.*}").url("/openapi.json", openapi::document())
}

/// Every route.
pub fn routes(app: &App, config: &mut ServiceConfig) {
    let api = web::scope("")
        .wrap(from_fn(limit_logins))
        .wrap(from_fn(observe))
        .service(swagger())
        .configure(|config| {
            for resource in resources::all() {
                (resource.mount)(config);
            }
        })
        .configure(operator::mount)
        .configure(seeing::mount)
        .configure(cloud::mount)
        .configure(neutron::mount)
        .configure(|config| {
            if app.authority.embedded().is_some() {
                identity::mount(config);
            }
        })
        .default_service(web::to(handlers::no_such_path));
    config.service(api);
}
