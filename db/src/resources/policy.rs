//! Security groups and address groups as desired state: what commands on them write into the feed.
//!
//! A command that lets more through writes the one entry of the group and direction. One that lets
//! less through raises the group's generation as well, which is in both of its entries: hosts with
//! ports of the group then ask again about the flows that they hold. More needs no such question,
//! since nothing that flows is wrong.
//!
//! Rules are read once, by whoever holds the row of the group; what was there before, or will be
//! there after, follows from what the command adds or takes away.

use super::{Failure, ObjectKind, group_set};
use crate::entries;
use crate::schema::{address_groups, security_groups};
use crate::statement::statement;
use diesel::prelude::*;
use diesel::sql_types::{Array, Cidr, Integer, Nullable, SmallInt, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use ipnet::IpNet;
use mizar_compile::{Object, Write};
use mizar_domain::model::{AddressGroup, SecurityGroup};
use mizar_domain::policy::{self, Numbers, Remote};
use mizar_domain::security_group::{self, Protocol, Rule};
use mizar_wire::body::GENERATION;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

type RuleColumns = (
    (Uuid, Uuid),
    (String, String, Option<i16>, Option<i32>, Option<i32>, Option<IpNet>),
    (Option<Uuid>, Option<i32>, Option<Uuid>, Option<i32>),
);

statement! {
    ReadRules { groups: Vec<Uuid> as Array<SqlUuid> } -> (
        (SqlUuid, SqlUuid),
        (Text, Text, Nullable<SmallInt>, Nullable<Integer>, Nullable<Integer>, Nullable<Cidr>),
        (Nullable<SqlUuid>, Nullable<Integer>, Nullable<SqlUuid>, Nullable<Integer>),
    )
    {
        "SELECT r.security_group_id, r.id, r.direction, r.ethertype, r.protocol_number, r.port_range_min, \
         r.port_range_max, r.normalized_cidr, r.remote_group_id, g.number, r.remote_address_group_id, a.number \
         FROM security_group_rules r LEFT JOIN security_groups g ON g.id = r.remote_group_id \
         LEFT JOIN address_groups a ON a.id = r.remote_address_group_id WHERE r.security_group_id = ANY(" groups ")"
    }
}

fn rule(columns: RuleColumns) -> Result<(Uuid, policy::Rule), Failure> {
    let ((owner, id), (direction, ethertype, protocol, low, high, prefix), remote) = columns;
    let (group, group_number, addresses, addresses_number) = remote;
    let corrupt = |column| Failure::Corrupt { kind: ObjectKind::SecurityGroupRule, id, column };
    let protocol = protocol.map(u8::try_from).transpose().map_err(|_| corrupt("protocol_number"))?;
    let rule = Rule {
        direction: direction.parse().map_err(|_| corrupt("direction"))?,
        ethertype: ethertype.parse().map_err(|_| corrupt("ethertype"))?,
        protocol: protocol.map(|number| Protocol { text: number.to_string(), number }),
        low,
        high,
        remote: security_group::Remote { prefix, group, addresses },
    };
    let numbers =
        Numbers { group: group_number.map(i32::cast_unsigned), addresses: addresses_number.map(i32::cast_unsigned) };
    let rule = policy::Rule::of(id, &rule, numbers).ok_or_else(|| corrupt("port_range_min"))?;
    Ok((owner, rule))
}

/// Groups with their rules, in the order of their ids.
pub(crate) async fn read(conn: &mut AsyncPgConnection, ids: &[Uuid]) -> Result<Vec<SecurityGroup>, Failure> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let columns =
        (security_groups::id, security_groups::number, security_groups::generation, security_groups::stateful);
    let rows: Vec<(Uuid, i32, i32, bool)> = security_groups::table
        .filter(security_groups::id.eq_any(ids))
        .order(security_groups::id)
        .select(columns)
        .load(conn)
        .await?;
    let columns: Vec<RuleColumns> = ReadRules { groups: ids.to_vec() }.load(conn).await?;
    let mut rules: BTreeMap<Uuid, Vec<policy::Rule>> = BTreeMap::new();
    for columns in columns {
        let (owner, rule) = rule(columns)?;
        rules.entry(owner).or_default().push(rule);
    }
    let group = |(id, number, generation, stateful): (Uuid, i32, i32, bool)| SecurityGroup {
        id: id.into(),
        number: number.cast_unsigned(),
        generation: generation.cast_unsigned(),
        stateful,
        rules: rules.remove(&id).unwrap_or_default(),
    };
    Ok(rows.into_iter().map(group).collect())
}

/// Writes what new groups come to.
pub(super) async fn publish(conn: &mut AsyncPgConnection, groups: &[Uuid]) -> Result<(), Failure> {
    let made = read(conn, groups).await?;
    let writes: Vec<Write> =
        made.iter().flat_map(|group| mizar_compile::create(Object::SecurityGroup(group))).collect();
    Ok(entries::apply(conn, &writes).await?)
}

/// A locked group has got these rules.
pub async fn widen(conn: &mut AsyncPgConnection, group: Uuid, rules: &BTreeSet<Uuid>) -> Result<(), Failure> {
    let mut writes = Vec::new();
    for new in read(conn, &[group]).await? {
        let mut old = new.clone();
        old.rules.retain(|rule| !rules.contains(&rule.id));
        writes.extend(mizar_compile::update(Object::SecurityGroup(&old), Object::SecurityGroup(&new)));
    }
    Ok(entries::apply(conn, &writes).await?)
}

/// Locked groups are about to lose the rules of which `goes` says so.
pub async fn narrow(
    conn: &mut AsyncPgConnection,
    groups: &[Uuid],
    goes: impl Fn(&policy::Rule) -> bool,
) -> Result<(), Failure> {
    if groups.is_empty() {
        return Ok(());
    }
    let mut writes = Vec::new();
    for old in read(conn, groups).await? {
        let mut new = old.clone();
        new.rules.retain(|rule| !goes(rule));
        new.generation = old.generation.wrapping_add(GENERATION);
        writes.extend(mizar_compile::update(Object::SecurityGroup(&old), Object::SecurityGroup(&new)));
    }
    diesel::update(security_groups::table.filter(security_groups::id.eq_any(groups)))
        .set(security_groups::generation.eq(security_groups::generation + GENERATION.cast_signed()))
        .execute(conn)
        .await?;
    Ok(entries::apply(conn, &writes).await?)
}

/// A group, its row held and written already, has become stateless, or is not any more.
pub async fn restate(conn: &mut AsyncPgConnection, group: Uuid) -> Result<(), Failure> {
    // A port that gets the group at this moment may have flows by what it was.
    narrow(conn, &[group], |_| false).await
}

statement! {
    NamingGroup { group: Uuid as SqlUuid } -> SqlUuid
    {
        "SELECT g.id FROM security_groups g WHERE EXISTS (SELECT FROM security_group_rules r \
         WHERE r.security_group_id = g.id AND r.remote_group_id = " group ") AND g.id <> " group " \
         ORDER BY g.id FOR NO KEY UPDATE"
    }
}

statement! {
    NamingAddresses { group: Uuid as SqlUuid } -> SqlUuid
    {
        "SELECT g.id FROM security_groups g WHERE EXISTS (SELECT FROM security_group_rules r \
         WHERE r.security_group_id = g.id AND r.remote_address_group_id = " group ") ORDER BY g.id FOR NO KEY UPDATE"
    }
}

/// Locks the other groups whose rules name a group.
pub async fn lock_naming(conn: &mut AsyncPgConnection, group: Uuid) -> QueryResult<Vec<Uuid>> {
    NamingGroup { group }.load(conn).await
}

/// Locks the groups whose rules name an address group.
pub async fn lock_naming_addresses(conn: &mut AsyncPgConnection, group: Uuid) -> QueryResult<Vec<Uuid>> {
    NamingAddresses { group }.load(conn).await
}

/// A group, its row held alone, is about to be deleted, with the rules of `naming` about it.
pub async fn forget(conn: &mut AsyncPgConnection, group: Uuid, naming: &[Uuid]) -> Result<(), Failure> {
    for gone in read(conn, &[group]).await? {
        narrow(conn, naming, |rule| rule.remote == Remote::Group(gone.number)).await?;
        entries::apply(conn, &mizar_compile::delete(Object::SecurityGroup(&gone))).await?;
        group_set::forget_with(conn, gone.number.cast_signed()).await?;
    }
    Ok(())
}

statement! {
    ReadAddresses { ids: Vec<Uuid> as Array<SqlUuid> } -> (SqlUuid, Integer, Array<Text>)
    { "SELECT id, number, addresses FROM address_groups WHERE id = ANY(" ids ")" }
}

/// Address groups as they are compiled.
pub(crate) async fn read_addresses(
    conn: &mut AsyncPgConnection,
    ids: Vec<Uuid>,
) -> Result<Vec<(Uuid, AddressGroup)>, Failure> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(Uuid, i32, Vec<String>)> = ReadAddresses { ids }.load(conn).await?;
    rows.into_iter().map(|(id, number, addresses)| Ok((id, address_group(id, number, &addresses)?))).collect()
}

fn address_group(id: Uuid, number: i32, addresses: &[String]) -> Result<AddressGroup, Failure> {
    let parse = |text: &String| text.parse::<IpNet>();
    let addresses = addresses.iter().map(parse).collect::<Result<BTreeSet<_>, _>>();
    let corrupt = |_| Failure::Corrupt { kind: ObjectKind::AddressGroup, id, column: "addresses" };
    let addresses = addresses.map_err(corrupt)?.into_iter().collect();
    Ok(AddressGroup { id: id.into(), number: number.cast_unsigned(), addresses })
}

/// Writes what new address groups come to.
pub async fn publish_addresses(conn: &mut AsyncPgConnection, ids: Vec<Uuid>) -> Result<(), Failure> {
    let made = read_addresses(conn, ids).await?;
    let writes: Vec<Write> =
        made.iter().flat_map(|(_, group)| mizar_compile::create(Object::AddressGroup(group))).collect();
    Ok(entries::apply(conn, &writes).await?)
}

/// A locked address group changes from one list of addresses to another; one that is about to go has none (`None`).
pub async fn readdress(
    conn: &mut AsyncPgConnection,
    id: Uuid,
    old: &[String],
    new: Option<&[String]>,
) -> Result<(), Failure> {
    let number: i32 = address_groups::table.find(id).select(address_groups::number).first(conn).await?;
    let compiled = |addresses: Option<&[String]>| {
        let group = addresses.map(|addresses| address_group(id, number, addresses)).transpose()?;
        Ok::<_, Failure>(group.map(|group| mizar_compile::compile(Object::AddressGroup(&group))).unwrap_or_default())
    };
    let writes = mizar_compile::change(&compiled(Some(old))?, &compiled(new)?);
    entries::apply(conn, &writes).await?;
    let kept: BTreeSet<&String> = new.into_iter().flatten().collect();
    if old.iter().any(|address| !kept.contains(address)) {
        let naming = lock_naming_addresses(conn, id).await?;
        narrow(conn, &naming, |_| false).await?;
    }
    Ok(())
}
