//! How far a change of a rule goes, where its group has very many ports: what scales policy is that
//! most hosts hear nothing, and nobody hears of members.

use crate::cluster::Cloud;
use anyhow::{Context as _, Result};
use diesel_async::{AsyncConnection as _, AsyncPgConnection};
use mizar_db::feed::{Position, delta};
use mizar_db::resources::{Failure, policy};
use mizar_wire::entry::Change;
use mizar_wire::{Kind, Scope};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use uuid::Uuid;

const HOSTS: u32 = 1_000;
const PORTS_OF_HOST: u32 = 10;
/// Of 10,000 ports in one subnet, as placement would have it: 64 shards, two bouncers each.
const SHARDS: u32 = 64;

#[derive(diesel::QueryableByName)]
struct Group {
    #[diesel(sql_type = diesel::sql_types::Uuid)]
    id: Uuid,
}

/// What each host that hears anything hears of a change.
async fn heard(conn: &mut AsyncPgConnection, at: &Position) -> Result<BTreeMap<u32, Vec<Change>>> {
    let mut heard = BTreeMap::new();
    for host in 1..=HOSTS {
        let news = delta::delta(conn, host.cast_signed(), Some(&at.epoch), &at.cursor).await?;
        let news = news.ok().context("the cursor is of this moment")?;
        assert!(news.added.is_empty() && news.dropped.is_empty(), "no scope comes or goes");
        if !news.changes.is_empty() {
            heard.insert(host, news.changes);
        }
    }
    Ok(heard)
}

fn kinds(changes: &[Change]) -> Vec<i16> {
    let mut kinds: Vec<i16> = changes.iter().map(|change| change.kind).collect();
    kinds.sort_unstable();
    kinds
}

fn bytes(changes: &[Change]) -> usize {
    serde_json::to_vec(changes).map_or(0, |text| text.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_of_ten_thousand_ports_is_one_row_that_their_bouncers_alone_hear_of() -> Result<()> {
    let cloud = Cloud::new(&[]).await?;
    let network = cloud.network().await?;
    let subnet = cloud.subnet(&network, 1).await?;
    cloud.execute(&format!(
            "INSERT INTO hosts (id, name, underlay, mtu, az, rack) \
             SELECT gen_random_uuid(), 'h' || n, '172.16.0.0'::inet + n, 1500, 'a', 'r' FROM generate_series(1, {HOSTS}) n"
        ))
        .await?;
    cloud
        .execute(&format!(
            "INSERT INTO subscriptions (host, scope, lo, hi, role, state) \
             SELECT number, 2::bigint << 32 | number, 0, 4095, 1, 2 FROM hosts UNION ALL \
             SELECT n + 1, {}, n / 2 * {width}, n / 2 * {width} + {width} - 1, 2, 2 \
             FROM generate_series(0, {SHARDS} * 2 - 1) n",
            Scope::Subnet(subnet.number).to_i64(),
            width = 4096 / SHARDS,
        ))
        .await?;
    for _ in 0..PORTS_OF_HOST {
        cloud.ports_on(&network, (1..=HOSTS).collect()).await?;
    }
    assert_eq!(cloud.number("SELECT count(DISTINCT group_set) FROM ports WHERE group_set > 0").await?, 1);

    let mut conn = cloud.connect().await?;
    let query = diesel::sql_query("SELECT id FROM security_groups");
    let group: Group = diesel_async::RunQueryDsl::get_result(query, &mut conn).await?;
    let group = group.id;
    let id = Uuid::new_v4();
    let rows = "SELECT coalesce(max(xid), 0) FROM entries";
    let written = async |since: i64| cloud.number(&format!("SELECT count(*) FROM entries WHERE xid > {since}")).await;

    let (at, since) = (Position::read(&mut conn).await?, cloud.number(rows).await?);
    let started = Instant::now();
    let insert = format!(
        "INSERT INTO security_group_rules (id, project_id, security_group_id, belongs_to_default_sg, description, \
         direction, ethertype, protocol, protocol_number, port_range_min, port_range_max) \
         SELECT '{id}', project_id, id, true, '', 'ingress', 'IPv4', 'tcp', 6, 443, 443 FROM security_groups"
    );
    let widen = async |conn: &mut AsyncPgConnection| {
        diesel_async::RunQueryDsl::execute(diesel::sql_query(&insert), conn).await?;
        policy::widen(conn, group, &BTreeSet::from([id])).await
    };
    conn.transaction::<_, Failure, _>(widen).await?;
    let took = started.elapsed();
    let heard_of_more = heard(&mut conn, &at).await?;
    assert_eq!(written(since).await?, 1);
    assert_eq!(heard_of_more.keys().copied().collect::<Vec<_>>(), (1..=SHARDS * 2).collect::<Vec<_>>());
    assert!(heard_of_more.values().all(|changes| kinds(changes) == [Kind::Group as i16]));
    println!(
        "one more rule of a group with {} ports on {HOSTS} hosts: 1 row in {took:.1?}, {} bouncers hear {} bytes each, \
         others nothing",
        HOSTS * PORTS_OF_HOST,
        heard_of_more.len(),
        bytes(&heard_of_more[&1]),
    );

    let (at, since) = (Position::read(&mut conn).await?, cloud.number(rows).await?);
    let narrow = async |conn: &mut AsyncPgConnection| policy::narrow(conn, &[group], |rule| rule.id == id).await;
    conn.transaction::<_, Failure, _>(narrow).await?;
    let heard_of_less = heard(&mut conn, &at).await?;
    assert_eq!((written(since).await?, heard_of_less.len()), (2, HOSTS as usize), "whoever has a port asks again");
    for (host, changes) in &heard_of_less {
        let both = [Kind::Group as i16, Kind::Member as i16];
        assert_eq!(kinds(changes), if *host <= SHARDS * 2 { &both[..] } else { &both[1..] });
    }
    println!(
        "one rule less: 2 rows, {} bouncers hear {} bytes each, {} other hosts {} bytes each",
        SHARDS * 2,
        bytes(&heard_of_less[&1]),
        HOSTS - SHARDS * 2,
        bytes(&heard_of_less[&HOSTS]),
    );
    Ok(())
}
