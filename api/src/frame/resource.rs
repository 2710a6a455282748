//! What a resource is to the frame: names, an attribute map, and its rules.
//!
//! The frame does the rest, the same for all: authentication, envelope, decoding against the map,
//! visibility (404), authorization (403), locks, `If-Match`, the transaction and its repetition,
//! quotas, audit events, list queries, paging, tags, actions, the answer and the OpenAPI document.
//!
//! A resource of the control plane alone implements [`Plain`] on its row and is done; what compiles
//! to entries of the data plane implements [`Resource`] and calls its commands. Both are named once
//! in `resources::all`. docs/adding-a-resource.md walks through it.
//!
//! [`Plain`]: super::plain::Plain

use super::action::Action;
use super::attribute::AttributeMap;
use super::caller::{Access, Caller, Role};
use super::extension::Extension;
use super::fault::Fault;
use super::fields::Fields;
use super::parent::Parent;
use diesel::QueryResult;
use diesel_async::AsyncPgConnection;
use mizar_db::listing::Listed;
use std::future::Future;
use uuid::Uuid;

pub use super::context::Context;
pub use super::tx::{Above, Tx};

/// Who may do what with a resource; `None`: nobody, the method does not exist (405).
#[derive(Clone, Copy, Debug)]
pub struct Operations {
    /// List and show.
    pub read: Access,
    /// POST.
    pub create: Option<Access>,
    /// PUT.
    pub update: Option<Access>,
    /// DELETE.
    pub delete: Option<Access>,
    /// Other services of the cloud may do what writers may: they bind ports.
    pub service: bool,
    /// Has tags and their endpoints.
    pub tags: bool,
}

impl Operations {
    /// A tenant's object: readers read, writers write.
    pub const TENANT: Self = Self {
        read: Access::Reader,
        create: Some(Access::Writer),
        update: Some(Access::Writer),
        delete: Some(Access::Writer),
        service: false,
        tags: true,
    };

    /// A tenant's object without tags.
    pub const UNTAGGED: Self = Self { tags: false, ..Self::TENANT };

    /// An operator's object that everybody may read.
    pub const OPERATOR: Self = Self {
        create: Some(Access::Admin),
        update: Some(Access::Admin),
        delete: Some(Access::Admin),
        ..Self::UNTAGGED
    };

    /// What the managers of its project write, and its members use.
    pub const MANAGED: Self = Self {
        create: Some(Access::Manager),
        update: Some(Access::Manager),
        delete: Some(Access::Manager),
        ..Self::UNTAGGED
    };

    /// What only the cloud itself writes.
    pub const READ_ONLY: Self = Self { create: None, update: None, delete: None, ..Self::UNTAGGED };

    /// Whether a caller's roles allow an operation at all.
    pub fn allow(&self, caller: &Caller, access: Access) -> bool {
        let writes = [Role::Admin, Role::Manager, Role::Member].into_iter().any(|role| caller.is(role));
        let only_service = caller.is(Role::Service) && !writes;
        caller.has(access) && (access == Access::Reader || self.service || !only_service)
    }

    /// Whether a caller writes objects of projects other than his own.
    pub fn anywhere(&self, caller: &Caller) -> bool {
        caller.is(Role::Admin) || (self.service && caller.is(Role::Service))
    }
}

/// An object of the API, with everything that its answer needs.
pub trait Resource: Sized + Send + Sync + 'static {
    /// Its row.
    type Row: Listed;
    /// Command that makes one.
    type Create: Send + Sync + 'static;
    /// Command that changes one.
    type Update: Send + Sync + 'static;
    /// What [`Resource::lock`] found around it.
    type Held: Send + 'static;

    /// As in `{"port": …}`; also the object type of audit events.
    const SINGULAR: &'static str;
    /// As in `{"ports": …}`.
    const PLURAL: &'static str;
    /// Path below /v2.0, or below the parent.
    const PATH: &'static str = Self::PLURAL;
    /// Another path that reaches the same, where servers and their documentation say different ones.
    const ALSO: Option<&'static str> = None;
    /// As error types and messages begin: `Port`.
    const KIND: &'static str;
    /// Error type of what is not there.
    const NOT_FOUND: &'static str;
    /// Its table, for tags.
    const TABLE: &'static str;
    /// Who may do what.
    const OPERATIONS: Operations = Operations::TENANT;
    /// The quota that each object counts against; none: as many as one likes.
    const QUOTA: Option<&'static str> = None;
    /// Who creates one says whose it is, or it is his: so what a quota holds is known before the work. Otherwise the
    /// resource's own rules foresee it.
    const NAMES_OWNER: bool = true;
    /// What it adds to /v2.0/extensions.
    const EXTENSIONS: &'static [Extension] = &[];
    /// A list makes what belongs into it and nobody asked for: [`Resource::before_list`] runs.
    const LAZY: bool = false;
    /// Below which objects its own lie.
    const PARENT: Option<Parent<Self>> = None;

    /// What one answer to a list holds at most, also without `limit`; none: as many as are asked for.
    const PAGE: Option<usize> = None;

    /// Its attributes.
    fn map() -> &'static AttributeMap<Self>;

    /// `…/{id}/{action}`.
    fn actions() -> Vec<Action<Self>> {
        Vec::new()
    }

    /// Its row.
    fn row(&self) -> &Self::Row;
    /// Its tags.
    fn tags(&self) -> &[String] {
        &[]
    }

    /// A create, decoded.
    fn decode_create(fields: &mut Fields<'_>) -> Result<Self::Create, Fault>;
    /// An update, decoded.
    fn decode_update(fields: &mut Fields<'_>, old: &Self) -> Result<Self::Update, Fault>;

    /// The id that a path means, below its parent if it is nested. Clients look names up as if they
    /// were ids first, and expect 404.
    fn resolve(
        _conn: &mut AsyncPgConnection,
        _above: Option<Above>,
        raw: &str,
    ) -> impl Future<Output = QueryResult<Option<Uuid>>> + Send {
        std::future::ready(Ok(Uuid::try_parse(raw).ok()))
    }

    /// Adds what other tables say about rows: one query for all of them, in their order.
    fn complete(
        conn: &mut AsyncPgConnection,
        context: &Context,
        rows: Vec<Self::Row>,
    ) -> impl Future<Output = QueryResult<Vec<Self>>> + Send;

    /// Makes what a list shall hold, in a transaction before it; only if [`Resource::LAZY`].
    fn before_list(_tx: &mut Tx<'_>) -> impl Future<Output = Result<(), Fault>> + Send {
        std::future::ready(Ok(()))
    }

    /// Whose an object is.
    fn owner(_conn: &mut AsyncPgConnection, row: &Self::Row) -> impl Future<Output = QueryResult<Option<Uuid>>> + Send {
        std::future::ready(Ok(row.project()))
    }

    /// Whether a caller who sees an object of somebody else's may delete it nevertheless.
    fn may_be_deleted_by(
        _conn: &mut AsyncPgConnection,
        _caller: &Caller,
        _row: &Self::Row,
    ) -> impl Future<Output = QueryResult<bool>> + Send {
        std::future::ready(Ok(false))
    }

    /// Takes the locks that an update or delete needs, of an object that the caller sees and may
    /// change; `None`: it is not there any more.
    fn lock(conn: &mut AsyncPgConnection, id: Uuid) -> impl Future<Output = Result<Option<Self::Held>, Fault>> + Send;

    /// Makes objects, all or none, in the order of the commands.
    fn create(tx: &mut Tx<'_>, commands: &[Self::Create]) -> impl Future<Output = Result<Vec<Self>, Fault>> + Send;

    /// Changes a locked object.
    fn update(
        tx: &mut Tx<'_>,
        held: Self::Held,
        old: Self,
        command: &Self::Update,
    ) -> impl Future<Output = Result<Self, Fault>> + Send;

    /// Deletes a locked object.
    fn delete(tx: &mut Tx<'_>, held: Self::Held, old: Self) -> impl Future<Output = Result<(), Fault>> + Send;

    /// The answer to a request for what is not there.
    fn missing(id: &str) -> Fault {
        Fault::not_found(Self::NOT_FOUND, format!("{} {id} could not be found.", Self::KIND))
    }
}
