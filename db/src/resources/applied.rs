//! What of a host's desired state is in force: counts, and what is not, for operators.
//!
//! A port is there once it is ACTIVE, a role once it is active; all else is on its way, or stuck.

use super::role::{self, RoleFilter, RoleRow};
use crate::placement::state::{Phase, Role};
use crate::schema::ports;
use diesel::dsl::count_star;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// Of each kind so many that are not in force are named.
pub const NAMED: usize = 100;

/// How many of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// The host should have.
    pub desired: i64,
    /// It has.
    pub applied: i64,
}

/// A port that is not ACTIVE.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = ports, check_for_backend(diesel::pg::Pg))]
#[expect(missing_docs, reason = "the columns are documented in the migrations")]
pub struct Waiting {
    pub id: Uuid,
    pub name: String,
    pub status: String,
    pub status_reason: String,
    pub admin_state_up: bool,
}

/// Ports and roles of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Ports that are bound to it.
    pub ports: Count,
    /// Shards that it bounces.
    pub bouncers: Count,
    /// Networks that it divides.
    pub dividers: Count,
    /// Ports that are not ACTIVE, at most [`NAMED`].
    pub waiting: Vec<Waiting>,
    /// Roles that are not active, at most [`NAMED`].
    pub changing: Vec<RoleRow>,
}

/// Of the host with this number and this name.
pub async fn of(conn: &mut AsyncPgConnection, number: i32, name: &str) -> QueryResult<Applied> {
    let of_host = || ports::table.filter(ports::host.eq(number));
    let by_status: Vec<(String, i64)> =
        of_host().group_by(ports::status).select((ports::status, count_star())).load(conn).await?;
    let waiting = of_host().filter(ports::status.ne("ACTIVE")).order(ports::id).limit(NAMED as i64);
    let waiting = waiting.select(Waiting::as_select()).load(conn).await?;
    let roles = role::list(conn, RoleFilter { host: Some(name.to_owned()), ..RoleFilter::default() }).await?;
    Ok(applied(&by_status, waiting, roles))
}

fn applied(by_status: &[(String, i64)], waiting: Vec<Waiting>, roles: Vec<RoleRow>) -> Applied {
    let mut applied = Applied { waiting, ..Applied::default() };
    for (status, ports) in by_status {
        applied.ports.desired += ports;
        applied.ports.applied += if status == "ACTIVE" { *ports } else { 0 };
    }
    for role in roles {
        let count = if role.role == Role::Bouncer as i16 { &mut applied.bouncers } else { &mut applied.dividers };
        count.desired += 1;
        if role.state == Phase::Active as i16 {
            count.applied += 1;
        } else if applied.changing.len() < NAMED {
            applied.changing.push(role);
        }
    }
    applied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_force_is_counted_whole_and_named_up_to_a_number() {
        let role = |role, state| RoleRow {
            host: "h1".into(),
            role,
            state,
            network_id: None,
            subnet_id: None,
            lo: 0,
            hi: 4095,
            changed_at: chrono::DateTime::UNIX_EPOCH,
        };
        let roles = (0..NAMED + 5).map(|_| role(2, 1)).chain([role(2, 2), role(3, 2), role(3, 3)]).collect();
        let statuses = [("ACTIVE".to_owned(), 4), ("BUILD".into(), 2), ("ERROR".into(), 1)];
        let found = applied(&statuses, Vec::new(), roles);
        assert_eq!(found.ports, Count { desired: 7, applied: 4 });
        assert_eq!(found.bouncers, Count { desired: NAMED as i64 + 6, applied: 1 });
        assert_eq!(found.dividers, Count { desired: 2, applied: 1 });
        assert_eq!(found.changing.len(), NAMED);
    }
}
