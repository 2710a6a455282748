//! Who has which role on what: `/v3/{projects,domains}/{id}/users/{user}/roles`, the same for the
//! system, and `/v3/role_assignments`.

use super::common::{Admin, Filters, admin, at, bad, connection, event, fault, listed, missing, parse, record};
use super::roles::find as find_role;
use super::views::{self, AssignmentScope, Reference, RoleAssignment, id_text};
use crate::app::App;
use crate::frame::caller::Caller;
use crate::frame::fault::Fault;
use actix_web::web::{self, ServiceConfig};
use actix_web::{FromRequest, HttpRequest, HttpResponse, dev::Payload};
use diesel_async::AsyncPgConnection;
use futures::FutureExt as _;
use mizar_db::identity::assignments::{self, Account, Assignment, AssignmentFilter, Names, On};
use mizar_db::identity::{DomainRef, Named, RoleRow, domains, projects, users};
use mizar_db::ledger::Event;
use serde_json::json;
use std::future::{Ready, ready};
use uuid::Uuid;

/// What roles are on, as paths begin.
pub const TARGETS: [&str; 3] = ["/v3/projects/{project}", "/v3/domains/{domain}", "/v3/system"];

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    for target in TARGETS {
        config.service(at(&format!("{target}/users/{{user}}/roles")).route(web::get().to(list_of_user))).service(
            at(&format!("{target}/users/{{user}}/roles/{{role}}"))
                .route(web::get().to(check))
                .route(web::head().to(check))
                .route(web::put().to(assign))
                .route(web::delete().to(unassign)),
        );
    }
    config.service(at("/v3/role_assignments").route(web::get().to(list)));
}

/// What the path names: a user, on something.
struct Whose {
    user: Uuid,
    on: On,
}

impl FromRequest for Whose {
    type Error = Fault;
    type Future = Ready<Result<Self, Fault>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let path = request.match_info();
        let on = match (path.get("project"), path.get("domain")) {
            (Some(project), _) => parse("project", project).map(On::Project),
            (None, Some(domain)) if domain.contains('\0') => Err(missing("domain", domain)),
            (None, Some(domain)) => Ok(On::Domain(domain.to_owned())),
            (None, None) => Ok(On::System),
        };
        let user = parse("user", path.query("user"));
        ready(on.and_then(|on| user.map(|user| Self { user, on })))
    }
}

impl Whose {
    /// What the audit log says: the object is the user.
    fn event(&self, action: &'static str, role: &RoleRow) -> Event {
        let (on, project) = match &self.on {
            On::Project(id) => (json!({"project": id_text(*id)}), Some(*id)),
            On::Domain(id) => (json!({ "domain": id }), None),
            On::System => (json!("system"), None),
        };
        let changes = json!({"role": role.name, "on": on});
        Event { project, ..event(action, "role_assignment", self.user, changes) }
    }

    /// Refuses what does not exist, by name.
    async fn exists(&self, conn: &mut AsyncPgConnection) -> Result<(), Fault> {
        if users::find(conn, &Named::Id(self.user)).await.map_err(fault)?.is_none() {
            return Err(missing("user", &id_text(self.user)));
        }
        match &self.on {
            On::Project(id) if projects::find(conn, &Named::Id(*id)).await.map_err(fault)?.is_none() => {
                Err(missing("project", &id_text(*id)))
            }
            On::Domain(id) if domains::find(conn, &DomainRef::Id(id.clone())).await.map_err(fault)?.is_none() => {
                Err(missing("domain", id))
            }
            _ => Ok(()),
        }
    }
}

async fn list_of_user(app: web::Data<App>, _: Admin, whose: Whose) -> Result<HttpResponse, Fault> {
    let mut conn = connection(&app).await?;
    whose.exists(&mut conn).await?;
    let rows = assignments::roles_on(&mut conn, whose.user, &whose.on).await.map_err(fault)?;
    Ok(listed("roles", rows.into_iter().map(|row| views::role(row, &app.settings))))
}

async fn check(app: web::Data<App>, _: Admin, whose: Whose, request: HttpRequest) -> Result<HttpResponse, Fault> {
    let role = find_role(&app, request.match_info().query("role")).await?;
    let has = assignments::roles_on(&mut *connection(&app).await?, whose.user, &whose.on).await.map_err(fault)?;
    if !has.contains(&role) {
        return Err(missing("role assignment with role", &id_text(role.id)));
    }
    Ok(HttpResponse::NoContent().finish())
}

async fn assign(
    app: web::Data<App>,
    Admin(actor): Admin,
    whose: Whose,
    request: HttpRequest,
) -> Result<HttpResponse, Fault> {
    let role = find_role(&app, request.match_info().query("role")).await?;
    whose.exists(&mut *connection(&app).await?).await?;
    let event = whose.event("create", &role);
    record(&app, actor, event, move |conn| {
        let (user, on, role) = (whose.user, whose.on.clone(), role.name.clone());
        async move { assignments::assign(conn, user, &on, &role).await }.boxed()
    })
    .await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn unassign(
    app: web::Data<App>,
    Admin(actor): Admin,
    whose: Whose,
    request: HttpRequest,
) -> Result<HttpResponse, Fault> {
    let role = find_role(&app, request.match_info().query("role")).await?;
    let event = whose.event("delete", &role);
    let revoked = record(&app, actor, event, move |conn| {
        let (user, on, role) = (whose.user, whose.on.clone(), role.name.clone());
        async move { assignments::unassign(conn, user, &on, &role).await }.boxed()
    })
    .await?;
    app.tokens()?.revoke([revoked]);
    Ok(HttpResponse::NoContent().finish())
}

/// The filters, or `None` if they ask for what cannot be.
fn filter(filters: &Filters) -> Result<Option<AssignmentFilter>, Fault> {
    let ids = |name: &str| filters.get(name).map(Uuid::parse_str).transpose();
    let (Ok(user), Ok(role), Ok(project)) = (ids("user.id"), ids("role.id"), ids("scope.project.id")) else {
        return Ok(None);
    };
    let system = filters.get("scope.system").map(|_| On::System);
    let named = [project.map(On::Project), filters.text("scope.domain.id").map(On::Domain), system];
    let mut named = named.into_iter().flatten();
    let on = named.next();
    if named.next().is_some() {
        return Err(bad("Specify a domain or project or system, not any combination"));
    }
    // Nobody is in a group, and no role is inherited: whoever asks for these gets none.
    let nothing = filters.get("group.id").is_some() || filters.get("scope.OS-INHERIT:inherited_to").is_some();
    Ok((!nothing).then_some(AssignmentFilter { user, role, on }))
}

async fn list(app: web::Data<App>, caller: Caller, filters: Filters) -> Result<HttpResponse, Fault> {
    match filters.get("user.id") {
        Some(user) if Uuid::parse_str(user).ok().is_some_and(|user| caller.claims.user_id() == Some(user)) => {}
        _ => admin(&caller)?,
    }
    let Some(filter) = filter(&filters)? else {
        return Ok(listed("role_assignments", Vec::<RoleAssignment>::new()));
    };
    let mut conn = connection(&app).await?;
    let rows = assignments::list(&mut conn, &filter).await.map_err(fault)?;
    let mut shown: Vec<RoleAssignment> =
        rows.iter().map(|row: &Assignment| views::assignment(row.clone(), &app.settings)).collect();
    if filters.flag("include_names")? == Some(true) {
        let names = assignments::names(&mut conn, &rows).await.map_err(fault)?;
        for (row, assignment) in rows.iter().zip(&mut shown) {
            name(assignment, row, &names);
        }
    }
    Ok(listed("role_assignments", shown))
}

fn named_domain(id: &str, names: &Names) -> Reference {
    Reference { id: id.to_owned(), name: names.domains.get(id).cloned(), domain: None }
}

fn named_account(reference: &mut Reference, account: Option<&Account>, names: &Names) {
    if let Some(Account { name, domain }) = account {
        reference.name = Some(name.clone());
        reference.domain = Some(Box::new(named_domain(domain, names)));
    }
}

/// Adds the names of what an assignment refers to.
fn name(shown: &mut RoleAssignment, row: &Assignment, names: &Names) {
    named_account(&mut shown.user, names.users.get(&row.user), names);
    shown.role.name = Some(row.role.name.clone());
    let AssignmentScope { project, domain, system: _ } = &mut shown.scope;
    match (&row.on, project, domain) {
        (On::Project(id), Some(project), _) => named_account(project, names.projects.get(id), names),
        (On::Domain(id), _, Some(domain)) => *domain = named_domain(id, names),
        _ => {}
    }
}
