//! Giving addresses to ports.
//!
//! No lock on the subnet: a candidate is inserted, and where another transaction has it the
//! insert does nothing and the port tries others (CONTROLPLANE C8). The first round guesses a few
//! addresses per port, which succeeds at once while pools are not nearly full; later rounds read
//! what is taken and draw from the rest, so that the last free address is found too.

use super::{Failure, inet, security_group};
use crate::schema::port_ips;
use crate::statement::statement;
use diesel::prelude::*;
use diesel::sql_types::{Array, Inet, SmallInt, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use ipnet::IpNet;
use mizar_domain::id::{NetworkId, SubnetId};
use mizar_domain::ipam::{IpamError, Lease, Space, Want};
use mizar_domain::model::slot;
use mizar_domain::port::PortError;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use uuid::Uuid;

/// Addresses wanted by one port, in the order of its `fixed_ips`.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The port.
    pub port: Uuid,
    /// Its network.
    pub network: NetworkId,
    /// The subnets of its network.
    pub spaces: &'a [Space],
    /// Resolved wishes; those held already are not inserted.
    pub wants: Vec<Want>,
}

/// A stored address of a port.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = port_ips, check_for_backend(diesel::pg::Pg))]
pub struct FixedIpRow {
    /// Whose.
    pub port_id: Uuid,
    /// Of which subnet.
    pub subnet_id: Uuid,
    /// The address.
    pub address: IpNet,
    /// Place among the port's addresses.
    pub position: i16,
}

/// Addresses tried at once for a want; at half-full pools all four are taken once in sixteen.
const GUESSES: usize = 4;

/// Rounds before giving up. Each loses only to a commit of somebody else, who thereby got on.
const ROUNDS: usize = 64;

statement! {
    /// For each port and position the first candidate that is free, unless another transaction
    /// takes it at this moment. Beside that, ports join groups: one statement less for each that is made.
    InsertAddresses {
        ports: Vec<Uuid> as Array<SqlUuid>,
        groups: Vec<Uuid> as Array<SqlUuid>,
        subnet: Vec<Uuid> as Array<SqlUuid>,
        address: Vec<IpNet> as Array<Inet>,
        network: Vec<Uuid> as Array<SqlUuid>,
        port: Vec<Uuid> as Array<SqlUuid>,
        position: Vec<i16> as Array<SmallInt>,
        slot: Vec<i16> as Array<SmallInt>,
    } -> (SqlUuid, SqlUuid, Inet, SmallInt)
    {
        "WITH joined AS (INSERT INTO port_security_groups (port_id, security_group_id) SELECT * FROM unnest((SELECT "
        ports "), (SELECT " groups "))) \
         INSERT INTO port_ips (subnet_id, address, network_id, port_id, position, slot) \
         SELECT DISTINCT ON (c.port, c.position) c.subnet, c.address, c.network, c.port, c.position, c.slot FROM unnest((SELECT "
        subnet "), (SELECT " address "), (SELECT " network "), (SELECT " port "), (SELECT " position "), (SELECT " slot
        ")) WITH ORDINALITY c (subnet, address, network, port, position, slot, place) \
         WHERE NOT EXISTS (SELECT FROM port_ips i WHERE i.subnet_id = c.subnet AND i.address = c.address) \
         ORDER BY c.port, c.position, c.place \
         ON CONFLICT DO NOTHING RETURNING port_id, subnet_id, address, position"
    }
}

/// Addresses to try.
#[derive(Default)]
pub(super) struct Candidates {
    subnet: Vec<Uuid>,
    address: Vec<IpNet>,
    network: Vec<Uuid>,
    port: Vec<Uuid>,
    position: Vec<i16>,
    slot: Vec<i16>,
}

impl Candidates {
    fn push(&mut self, wanted: &Wanted<'_>, position: i16, number: u32, lease: Lease) {
        let address = IpAddr::V4(lease.address);
        self.subnet.push(lease.subnet.uuid());
        self.address.push(inet(address));
        self.network.push(wanted.network.uuid());
        self.port.push(wanted.port);
        self.position.push(position);
        self.slot.push(slot(number, address).cast_signed());
    }

    /// Takes what is free of them.
    pub async fn insert(self, conn: &AsyncPgConnection) -> QueryResult<Vec<FixedIpRow>> {
        self.insert_and_join(conn, &[]).await
    }

    /// The same, and puts ports into groups that are kept: port, group, number of the group.
    pub async fn insert_and_join(
        self,
        mut conn: &AsyncPgConnection,
        memberships: &[(Uuid, Uuid, i32)],
    ) -> QueryResult<Vec<FixedIpRow>> {
        if self.port.is_empty() {
            security_group::join(conn, memberships).await?;
            return Ok(Vec::new());
        }
        let (ports, groups) = memberships.iter().map(|(port, group, _)| (*port, *group)).unzip();
        let Self { subnet, address, network, port, position, slot } = self;
        let statement = InsertAddresses { ports, groups, subnet, address, network, port, position, slot };
        let rows: Vec<(Uuid, Uuid, IpNet, i16)> = statement.load(&mut conn).await?;
        let row = |(port_id, subnet_id, address, position)| FixedIpRow { port_id, subnet_id, address, position };
        Ok(rows.into_iter().map(row).collect())
    }
}

/// Gives every port what it wants, or fails. The ports' rows exist. Returns what was inserted.
pub async fn assign(conn: &mut AsyncPgConnection, all: &[Wanted<'_>]) -> Result<Vec<FixedIpRow>, Failure> {
    let mut assignment = Assignment::of(all);
    let first = assignment.guess()?.insert(conn).await?;
    assignment.finish(conn, first).await
}

/// Addresses for ports, as far as they have been given. The first round may be sent together with other
/// statements.
pub(super) struct Assignment<'a> {
    open: Vec<(&'a Wanted<'a>, i16, &'a Want)>,
    /// What the command names or has taken: no other want of it shall guess these.
    avoid: BTreeSet<Lease>,
    done: Vec<FixedIpRow>,
}

impl<'a> Assignment<'a> {
    pub fn of(all: &'a [Wanted<'a>]) -> Self {
        let mut open: Vec<(&Wanted<'_>, i16, &Want)> = Vec::new();
        for wanted in all {
            for (position, want) in (0i16..).zip(&wanted.wants) {
                if !matches!(want, Want::Held(_)) {
                    open.push((wanted, position, want));
                }
            }
        }
        let avoid = open.iter().filter_map(|(_, _, want)| match want {
            Want::Exact(lease) | Want::Held(lease) => Some(*lease),
            Want::Any(_) => None,
        });
        Self { avoid: avoid.collect(), done: Vec::with_capacity(open.len()), open }
    }

    /// The first round knows nothing of what is taken.
    pub fn guess(&mut self) -> Result<Candidates, Failure> {
        self.candidates(None)
    }

    /// The rounds after the first, if it was not enough.
    pub async fn finish(
        mut self,
        conn: &mut AsyncPgConnection,
        first: Vec<FixedIpRow>,
    ) -> Result<Vec<FixedIpRow>, Failure> {
        self.took(first)?;
        for _ in 1..ROUNDS {
            if self.open.is_empty() {
                break;
            }
            let taken = taken(conn, &self.open).await?;
            let inserted = self.candidates(Some(taken))?.insert(conn).await?;
            self.took(inserted)?;
        }
        if self.open.is_empty() { Ok(self.done) } else { Err(Failure::Contended) }
    }

    fn took(&mut self, inserted: Vec<FixedIpRow>) -> Result<(), Failure> {
        let got: BTreeSet<(Uuid, i16)> = inserted.iter().map(|row| (row.port_id, row.position)).collect();
        self.done.extend(inserted);
        self.open.retain(|(wanted, position, _)| !got.contains(&(wanted.port, *position)));
        // An address that was named and not inserted is somebody else's.
        let named = self.open.iter().find_map(|(wanted, _, want)| match want {
            Want::Exact(lease) => Some((wanted.network, lease.address)),
            _ => None,
        });
        match named {
            Some((network, address)) => Err(PortError::Ipam(IpamError::InUse { network, address }).into()),
            None => Ok(()),
        }
    }

    /// What to try next: guesses, or what is free where that is known.
    fn candidates(&mut self, mut taken: Option<BTreeMap<SubnetId, BTreeSet<Ipv4Addr>>>) -> Result<Candidates, Failure> {
        let mut rng = rand::rng();
        let mut candidates = Candidates::default();
        for (wanted, position, want) in &self.open {
            match (want, &mut taken) {
                (Want::Held(_), _) => {}
                (Want::Exact(lease), _) => {
                    let space = wanted.spaces.iter().find(|space| space.subnet == lease.subnet);
                    let number = space.map(|space| space.number).ok_or(Failure::Contended)?;
                    candidates.push(wanted, *position, number, *lease);
                }
                (Want::Any(choices), None) => {
                    // The first subnet with a free address wins, so one guess in each is not enough,
                    // and many in all would be waste: guess in the first, later rounds know.
                    let [first, ..] = choices.as_slice() else { continue };
                    let Some(space) = wanted.spaces.get(*first) else { continue };
                    for address in space.guess(GUESSES, &self.avoid, &mut rng) {
                        let lease = Lease { subnet: space.subnet, address };
                        self.avoid.insert(lease);
                        candidates.push(wanted, *position, space.number, lease);
                    }
                }
                (Want::Any(choices), Some(taken)) => {
                    let free = choices.iter().filter_map(|index| wanted.spaces.get(*index)).find_map(|space| {
                        let taken = taken.entry(space.subnet).or_default();
                        let address = space.draw_free(taken, &mut rng)?;
                        taken.insert(address);
                        Some((space.number, Lease { subnet: space.subnet, address }))
                    });
                    let (number, lease) = free.ok_or(PortError::Ipam(IpamError::Exhausted(wanted.network)))?;
                    candidates.push(wanted, *position, number, lease);
                }
            }
        }
        Ok(candidates)
    }
}

async fn taken(
    conn: &mut AsyncPgConnection,
    open: &[(&Wanted<'_>, i16, &Want)],
) -> QueryResult<BTreeMap<SubnetId, BTreeSet<Ipv4Addr>>> {
    let subnets: BTreeSet<Uuid> = open
        .iter()
        .filter_map(|(wanted, _, want)| match want {
            Want::Any(choices) => Some(choices.iter().filter_map(|index| wanted.spaces.get(*index))),
            _ => None,
        })
        .flatten()
        .map(|space| space.subnet.uuid())
        .collect();
    let rows: Vec<(Uuid, IpNet)> = port_ips::table
        .filter(port_ips::subnet_id.eq_any(subnets))
        .select((port_ips::subnet_id, port_ips::address))
        .load(conn)
        .await?;
    let mut taken: BTreeMap<SubnetId, BTreeSet<Ipv4Addr>> = BTreeMap::new();
    for (subnet, address) in rows {
        if let Some(address) = super::ipv4(address) {
            taken.entry(subnet.into()).or_default().insert(address);
        }
    }
    Ok(taken)
}
