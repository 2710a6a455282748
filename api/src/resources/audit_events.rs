//! The audit log: who changed what and when. A project's own members see what was done to its objects;
//! from where, with which rights, and what was sent (which may name hosts) only administrators do.

use crate::frame::attribute::Attribute;
use crate::frame::caller::Access;
use crate::frame::decode::{Decode, Opaque};
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::plain::{Item, Plain};
use crate::frame::resource::Operations;
use crate::frame::standard::{nullable, project_schema, text_schema, time, time_schema};
use crate::{column, stored};
use diesel::dsl::not;
use diesel::{BoolExpressionMethods as _, ExpressionMethods as _, NullableExpressionMethods as _};
use mizar_db::listing::Predicate;
use mizar_db::{one_of, sharing, sort_key};
use uuid::Uuid;

stored! {
    /// One change, as the transaction that made it wrote it.
    pub struct AuditEvent in audit_events: bare {
        at: chrono::DateTime<chrono::Utc> as Timestamptz,
        request_id: String as Text,
        remote: String as Text,
        user_id: String as Text,
        user_name: String as Text,
        user_project: Option<Uuid> as Nullable<Uuid>,
        roles: Vec<String> as Array<Text>,
        action: String as Text,
        object_type: String as Text,
        object_id: Uuid as Uuid,
        project_id: Option<Uuid> as Nullable<Uuid>,
        changes: serde_json::Value as Jsonb,
    }
}

/// Types of objects that are users, though their events name a project.
const OF_ACCOUNTS: [&str; 2] = ["role_assignment", "token"];

type Attr = Attribute<Item<AuditEvent>>;

fn project(id: Option<Uuid>) -> Option<String> {
    id.map(|id| id.simple().to_string())
}

impl Plain for AuditEvent {
    type More = ();

    const SINGULAR: &'static str = "audit_event";
    const PLURAL: &'static str = "audit_events";
    const PATH: &'static str = "mizar/audit";
    const KIND: &'static str = "AuditEvent";
    const NOT_FOUND: &'static str = "AuditEventNotFound";
    const PAGE: Option<usize> = Some(1000);
    const OPERATIONS: Operations = Operations::READ_ONLY;

    /// What was done to the project's own objects. What was done to accounts, and who signed out, is told to administrators
    /// alone: the objects of these events are users.
    fn visible(project: Uuid) -> Predicate<audit_events::table> {
        let of_accounts = audit_events::object_type.eq_any(OF_ACCOUNTS);
        Box::new(sharing::owned("audit_events", project).and(not(of_accounts).nullable()))
    }

    fn attributes() -> Vec<Attr> {
        vec![
            column!(Item<AuditEvent>, audit_events, AuditEvent, id: Uuid).about("Ids sort by time."),
            // Ids are made in the order of time, and a project's page goes by the index of its ids.
            Attr::shown("at", time_schema, |event, out| out.put(&time(event.row.at))).sort(sort_key!(
                AuditEvent,
                audit_events::id,
                |row| row.id
            )),
            column!(Item<AuditEvent>, audit_events, AuditEvent, request_id: String as mizar_domain::text::Name)
                .seen_by(Access::Admin),
            column!(Item<AuditEvent>, audit_events, AuditEvent, remote: String as mizar_domain::text::Name)
                .about("Address that the request came from.")
                .seen_by(Access::Admin),
            column!(Item<AuditEvent>, audit_events, AuditEvent, user_id: String as mizar_domain::text::Name)
                .seen_by(Access::Admin),
            column!(Item<AuditEvent>, audit_events, AuditEvent, user_name: String as mizar_domain::text::Name),
            Attr::shown(
                "user_project",
                || nullable(project_schema()),
                |event, out| {
                    out.put(&project(event.row.user_project));
                },
            )
            .about("Of the user's token.")
            .seen_by(Access::Admin)
            .filter(one_of!(audit_events::user_project: Uuid)),
            Attr::shown(
                "roles",
                || utoipa::openapi::schema::Array::new(text_schema()).into(),
                |event, out| {
                    out.put(&event.row.roles);
                },
            )
            .seen_by(Access::Admin),
            column!(Item<AuditEvent>, audit_events, AuditEvent, action: String as mizar_domain::text::Name)
                .about("create, update, delete, or the name of an action."),
            column!(Item<AuditEvent>, audit_events, AuditEvent, object_type: String as mizar_domain::text::Name),
            column!(Item<AuditEvent>, audit_events, AuditEvent, object_id: Uuid),
            Attr::shown(
                "project_id",
                || nullable(project_schema()),
                |event, out| {
                    out.put(&project(event.row.project_id));
                },
            )
            .about("Of the object.")
            .filter(one_of!(audit_events::project_id: Uuid)),
            Attr::shown("changes", Opaque::schema, |event, out| out.put(&event.row.changes))
                .about("What was sent.")
                .seen_by(Access::Admin),
        ]
    }

    fn create(_: &mut Fields<'_>) -> Result<Self, Fault> {
        Err(Fault::method_not_allowed())
    }

    fn update(&mut self, _: &mut Fields<'_>) -> Result<(), Fault> {
        Err(Fault::method_not_allowed())
    }
}
