//! What a cloud starts with.

use super::assignments::{On, assign};
use super::{AccountError, DEFAULT_DOMAIN, DomainRef, Named, ProjectRow, UserRow, projects, users};
use crate::schema::{domains, role_assignments};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// The domain, a project and a user `admin` with the role admin on it and on the system. Does
/// nothing if anybody is an administrator, or there is a user of that name: a password that was
/// changed since stays changed, and an account that was renamed, disabled or deleted stays so.
pub async fn bootstrap(conn: &mut AsyncPgConnection, password_hash: &str) -> Result<bool, AccountError> {
    diesel::insert_into(domains::table)
        .values((domains::id.eq(DEFAULT_DOMAIN), domains::name.eq("Default")))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    // Replicas that start together wait here for the first.
    let domain = domains::table.find(DEFAULT_DOMAIN).select(domains::id).for_update();
    domain.first::<String>(conn).await?;
    let by_name = |name: &str| Named::Name { name: name.into(), domain: DomainRef::Id(DEFAULT_DOMAIN.into()) };
    let anybody = role_assignments::table
        .filter(role_assignments::role.eq("admin"))
        .filter(role_assignments::domain_id.is_null());
    let anybody: bool = diesel::select(diesel::dsl::exists(anybody)).get_result(conn).await?;
    if anybody || users::find(conn, &by_name("admin")).await?.is_some() {
        return Ok(false);
    }
    let project_id = match projects::find(conn, &by_name("admin")).await? {
        Some((project, _)) => project.id,
        None => {
            let row = ProjectRow {
                id: Uuid::new_v4(),
                domain_id: DEFAULT_DOMAIN.into(),
                name: "admin".into(),
                description: "The operators' project".into(),
                enabled: true,
                tags: Vec::new(),
            };
            projects::create(conn, &row).await?;
            row.id
        }
    };
    let row = UserRow {
        id: Uuid::new_v4(),
        domain_id: DEFAULT_DOMAIN.into(),
        name: "admin".into(),
        password_hash: Some(password_hash.into()),
        enabled: true,
        default_project_id: Some(project_id),
        email: String::new(),
        description: String::new(),
    };
    users::create(conn, &row).await?;
    assign(conn, row.id, &On::Project(project_id), "admin").await?;
    assign(conn, row.id, &On::System, "admin").await?;
    Ok(true)
}
