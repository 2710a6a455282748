//! What agents report, and BUILD to ACTIVE.

use crate::world::{commit, subscribe};
use anyhow::Context as _;
use chrono::TimeDelta;
use diesel::sql_types::{Bool, Integer, Nullable, Text};
use diesel::{QueryableByName, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use mizar_compile::{Object, create};
use mizar_db::agents::promote::promote;
use mizar_db::agents::register::{RegisterError, Registration, find, register};
use mizar_db::agents::report::{
    Acknowledged, Seen, Wiring, store_complete, store_failed, store_lost, store_seen, store_wired,
};
use mizar_db::feed::{Cursor, Position};
use mizar_db::pool::Use;
use mizar_domain::id::PortId;
use mizar_domain::mac::Mac;
use mizar_domain::model::{BoundPort, FixedIp};
use mizar_testkit::TestDb;
use mizar_wire::sync::Failure;
use mizar_wire::{Kind, Scope};
use std::collections::{BTreeMap, HashSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

const LEASE: Duration = Duration::from_secs(30);

fn said(name: &str, boot: &str, last: u8) -> Registration {
    Registration {
        name: name.into(),
        boot_id: boot.into(),
        underlay: Ipv4Addr::new(10, 9, 0, last),
        mtu: 1500,
        az: "a".into(),
        rack: "r".into(),
        transit_hook: "tcx".into(),
        version: "1".into(),
        abi: 1,
    }
}

#[derive(QueryableByName)]
struct Flag {
    #[diesel(sql_type = Bool)]
    yes: bool,
}

async fn holds(conn: &mut AsyncPgConnection, condition: &str) -> anyhow::Result<bool> {
    let flag: Flag = sql_query(format!("SELECT coalesce(({condition}), false) AS yes")).get_result(conn).await?;
    Ok(flag.yes)
}

#[tokio::test]
async fn a_host_registers_once_and_keeps_its_number_and_entry() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let (pool, mut conn) = (db.pool(4, Use::Commands)?, db.connect().await?);
    let lease = TimeDelta::seconds(30);
    let number = register(&pool, &said("h1", "b1", 1), lease).await?;
    let at = Position::read(&mut conn).await?;
    assert_eq!(register(&pool, &said("h1", "b1", 1), lease).await?, number);
    let batch = mizar_db::feed::tail::tail(&mut conn, &at.cursor).await?;
    assert!(batch.entries.is_empty() && batch.subscriptions.is_empty(), "registering again wrote {batch:?}");
    assert_eq!(register(&pool, &said("h1", "b1", 2), lease).await?, number);
    assert_eq!(mizar_db::feed::tail::tail(&mut conn, &at.cursor).await?.entries.len(), 1, "its address changed");
    assert!(holds(&mut conn, "SELECT count(*) = 2 FROM subscriptions WHERE role = 1 AND state = 2").await?);
    Ok(())
}

#[tokio::test]
async fn two_first_registrations_at_once_make_one_host() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let pool = db.pool(8, Use::Commands)?;
    let said = said("h1", "b1", 1);
    let once = || register(&pool, &said, TimeDelta::seconds(30));
    let (a, b, c) = tokio::join!(once(), once(), once());
    assert_eq!(HashSet::from([a?, b?, c?]).len(), 1);
    Ok(())
}

#[tokio::test]
async fn another_boot_waits_for_the_lease_and_another_host_for_its_own_address() -> anyhow::Result<()> {
    let db = TestDb::create().await?;
    let (pool, mut conn) = (db.pool(4, Use::Commands)?, db.connect().await?);
    let lease = TimeDelta::seconds(30);
    let number = register(&pool, &said("h1", "b1", 1), lease).await?;
    let refused = register(&pool, &said("h1", "b2", 1), lease).await;
    assert!(matches!(refused, Err(RegisterError::Held { left }) if left > TimeDelta::seconds(25)));
    let refused = register(&pool, &said("h2", "b1", 1), lease).await;
    assert!(matches!(refused, Err(RegisterError::UnderlayTaken(_))));
    assert_eq!(find(&mut conn, "h2").await?, None);

    conn.batch_execute("UPDATE host_state SET seen_at = now() - interval '31 s', cursor = '5:5:', epoch = 'e'").await?;
    assert_eq!(register(&pool, &said("h1", "b2", 1), lease).await?, number);
    assert_eq!(find(&mut conn, "h1").await?.context("found")?.boot_id, "b2");
    assert!(
        holds(&mut conn, "SELECT cursor IS NULL AND epoch IS NULL FROM host_state").await?,
        "acknowledged by another boot"
    );
    Ok(())
}

/// A network with one subnet, three hosts, and one port of the given address on the first.
struct World {
    db: TestDb,
    conn: AsyncPgConnection,
    epoch: String,
    port: BoundPort,
    hosts: [i32; 3],
}

const SUBNET: u32 = 1;

impl World {
    async fn new() -> anyhow::Result<Self> {
        let db = TestDb::create().await?;
        let (pool, mut conn) = (db.pool(2, Use::Commands)?, db.connect().await?);
        let mut hosts = [0; 3];
        for (n, host) in hosts.iter_mut().enumerate() {
            *host = register(&pool, &said(&format!("h{n}"), "b", n as u8), TimeDelta::seconds(30)).await?.cast_signed();
        }
        let port = BoundPort {
            id: PortId::random(),
            number: 7,
            generation: 3,
            name: String::new(),
            vni: 5000,
            mac: Mac([2, 0, 0, 0, 0, 1]),
            fixed_ips: vec![FixedIp { subnet: SUBNET, address: Ipv4Addr::new(10, 0, 0, 5).into() }],
            pairs: vec![],
            port_security: true,
            admin_up: true,
            set: None,
            dhcp_options: Vec::new(),
            host: Some(hosts[0].cast_unsigned()),
            moved_from: None,
        };
        conn.batch_execute(&format!(
            "INSERT INTO networks (id, project_id, vni, mtu) VALUES ('{0}', '{0}', 5000, 1398); \
             INSERT INTO subnets (id, project_id, network_id, number, ip_version, cidr) VALUES ('{0}', '{0}', '{0}', {SUBNET}, 4, '10.0.0.0/24'); \
             INSERT INTO ports (id, project_id, network_id, number, mac, host, generation, status) \
               VALUES ('{1}', '{0}', '{0}', 7, '02:00:00:00:00:01', {2}, 3, 'BUILD'); \
             INSERT INTO port_ips (subnet_id, address, network_id, port_id, position, slot) VALUES ('{0}', '10.0.0.5', '{0}', '{1}', 0, {3})",
            uuid::Uuid::from_u128(1),
            port.id,
            hosts[0],
            mizar_domain::model::slot(SUBNET, port.fixed_ips[0].address),
        ))
        .await?;
        commit(&mut conn, &create(Object::Port(&port))).await?;
        let epoch = Position::read(&mut conn).await?.epoch;
        Ok(Self { db, conn, epoch, port, hosts })
    }

    async fn bouncer(&mut self, host: i32) -> anyhow::Result<()> {
        subscribe(&mut self.conn, host, Scope::Subnet(SUBNET), (0, 4095), true).await
    }

    async fn ack(&mut self, host: i32, cursor: Cursor) -> anyhow::Result<()> {
        self.ack_but(host, cursor, vec![]).await
    }

    async fn ack_but(&mut self, host: i32, cursor: Cursor, failures: Vec<Failure>) -> anyhow::Result<()> {
        let ack = Acknowledged { epoch: self.epoch.clone(), cursor, failures };
        let seen = Seen { boot_id: "b".into(), at: Instant::now(), ack: Some(ack) };
        assert_eq!(store_seen(&mut self.conn, &BTreeMap::from([(host, seen)])).await?, HashSet::new());
        Ok(())
    }

    async fn now(&mut self) -> anyhow::Result<Cursor> {
        Ok(Position::read(&mut self.conn).await?.cursor)
    }

    fn wiring(&self) -> Wiring {
        Wiring { host: self.hosts[0], port: 7, generation: 3 }
    }

    async fn wire(&mut self) -> anyhow::Result<()> {
        let wiring = self.wiring();
        assert_eq!(store_wired(&mut self.conn, &[wiring]).await?, 1);
        Ok(())
    }

    async fn promoted(&mut self) -> anyhow::Result<Vec<u32>> {
        Ok(promote(&mut self.conn, LEASE, &self.epoch).await?)
    }

    async fn status(&mut self) -> anyhow::Result<(String, Option<i32>, String)> {
        #[derive(QueryableByName)]
        struct Status {
            #[diesel(sql_type = Text)]
            status: String,
            #[diesel(sql_type = Nullable<Integer>)]
            wired_generation: Option<i32>,
            #[diesel(sql_type = Text)]
            status_reason: String,
        }
        let row: Status =
            sql_query("SELECT status, wired_generation, status_reason FROM ports").get_result(&mut self.conn).await?;
        Ok((row.status, row.wired_generation, row.status_reason))
    }
}

#[tokio::test]
async fn a_port_is_active_when_it_is_wired_and_every_active_bouncer_has_acknowledged() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    let [_, b, c] = world.hosts;
    assert_eq!(world.promoted().await?, [0u32; 0], "not wired, no bouncer");
    world.wire().await?;
    assert_eq!(world.promoted().await?, [0u32; 0], "no bouncer");
    world.bouncer(b).await?;
    world.bouncer(c).await?;
    assert_eq!(world.promoted().await?, [0u32; 0], "nobody acknowledged");
    let now = world.now().await?;
    world.ack(b, now.clone()).await?;
    assert_eq!(world.promoted().await?, [0u32; 0], "one of two");
    world.ack(c, "3:3:".parse()?).await?;
    assert_eq!(world.promoted().await?, [0u32; 0], "an older cursor");
    world.ack(c, now).await?;
    assert_eq!(world.promoted().await?, [7]);
    assert_eq!(world.status().await?.0, "ACTIVE");
    assert_eq!(world.promoted().await?, [0u32; 0], "once");
    assert!(holds(&mut world.conn, "SELECT revision_number = 1 FROM ports").await?);
    Ok(())
}

#[tokio::test]
async fn a_bouncer_without_a_lease_or_not_yet_active_holds_nobody_up() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    let [a, b, c] = world.hosts;
    world.wire().await?;
    for host in [a, b, c] {
        world.bouncer(host).await?;
    }
    let now = world.now().await?;
    world.ack(a, now).await?;
    world
        .conn
        .batch_execute(&format!("UPDATE host_state SET seen_at = now() - interval '31 s' WHERE host = {b}"))
        .await?;
    assert_eq!(world.promoted().await?, [0u32; 0], "one is alive and has not acknowledged");
    world.conn.batch_execute(&format!("UPDATE subscriptions SET state = 1 WHERE host = {c} AND role = 2")).await?;
    assert_eq!(world.promoted().await?, [7]);
    Ok(())
}

#[tokio::test]
async fn a_port_waits_while_its_own_host_has_no_lease() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    let [a, b, _] = world.hosts;
    world.wire().await?;
    world.bouncer(b).await?;
    let now = world.now().await?;
    world.ack(b, now).await?;
    let seen = |ago: &str| format!("UPDATE host_state SET seen_at = now() - interval '{ago}' WHERE host = {a}");
    world.conn.batch_execute(&seen("31 s")).await?;
    assert_eq!(world.promoted().await?, [0u32; 0], "its host is silent");
    world.conn.batch_execute(&seen("1 s")).await?;
    assert_eq!(world.promoted().await?, [7]);
    Ok(())
}

#[tokio::test]
async fn a_bouncer_that_could_not_apply_the_entry_counts_as_not_told() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    let b = world.hosts[1];
    world.wire().await?;
    world.bouncer(b).await?;
    let now = world.now().await?;
    let key = format!("{}00000000000000000000ffff0a000005", world.port.id.uuid().simple());
    let scope = Scope::Subnet(SUBNET).to_i64();
    let failure = Failure { scope, kind: Kind::Bounce as i16, key, reason: "the map is full".into() };
    let another = Failure { key: failure.key.replace("0a000005", "0a000006"), ..failure.clone() };
    world.ack_but(b, now.clone(), vec![another.clone(), failure]).await?;
    assert_eq!(world.promoted().await?, [0u32; 0], "it failed there");
    world.ack_but(b, now, vec![another]).await?;
    assert_eq!(world.promoted().await?, [7], "another entry's failure");
    Ok(())
}

#[tokio::test]
async fn an_acknowledgement_of_another_epoch_counts_for_nothing() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    let host = world.hosts[1];
    world.wire().await?;
    world.bouncer(host).await?;
    let now = world.now().await?;
    world.ack(host, now).await?;
    world.epoch = "another".into();
    assert_eq!(world.promoted().await?, [0u32; 0]);
    Ok(())
}

#[tokio::test]
async fn a_port_that_is_administratively_down_is_never_active() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    let host = world.hosts[1];
    world.conn.batch_execute("UPDATE ports SET admin_state_up = false, status = 'DOWN'").await?;
    world.bouncer(host).await?;
    world.wire().await?;
    let now = world.now().await?;
    world.ack(host, now).await?;
    assert_eq!(world.promoted().await?, [0u32; 0]);
    assert_eq!(world.status().await?, ("DOWN".into(), Some(3), String::new()));
    Ok(())
}

#[tokio::test]
async fn reports_of_another_binding_or_from_another_host_change_nothing() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    let right = world.wiring();
    for wrong in
        [Wiring { generation: 2, ..right }, Wiring { host: world.hosts[1], ..right }, Wiring { port: 8, ..right }]
    {
        assert_eq!(store_wired(&mut world.conn, &[wrong]).await?, 0);
        assert_eq!(store_lost(&mut world.conn, &[wrong]).await?, 0);
    }
    assert_eq!(world.status().await?, ("BUILD".into(), None, String::new()));
    Ok(())
}

#[tokio::test]
async fn a_lost_interface_is_down_and_comes_up_again_when_it_is_wired() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    let (host, wiring) = (world.hosts[1], world.wiring());
    world.bouncer(host).await?;
    let now = world.now().await?;
    world.ack(host, now).await?;
    for lose_by_omission in [false, true] {
        store_wired(&mut world.conn, &[wiring]).await?;
        assert_eq!(world.promoted().await?, [7]);
        assert_eq!(store_wired(&mut world.conn, &[wiring]).await?, 0, "said again");
        if lose_by_omission {
            assert_eq!(store_complete(&mut world.conn, wiring.host, vec![7]).await?, 0);
            assert_eq!(store_complete(&mut world.conn, wiring.host, vec![8]).await?, 1);
        } else {
            assert_eq!(store_lost(&mut world.conn, &[wiring]).await?, 1);
        }
        assert_eq!(world.status().await?, ("DOWN".into(), None, String::new()));
    }
    Ok(())
}

#[tokio::test]
async fn a_port_that_its_host_cannot_program_is_in_error_until_it_can() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    let failure = Failure {
        scope: Scope::Host(world.hosts[0].cast_unsigned()).to_i64(),
        kind: Kind::Port as i16,
        key: world.port.id.uuid().simple().to_string(),
        reason: "no such interface".into(),
    };
    let host = world.hosts[0];
    assert_eq!(store_failed(&mut world.conn, world.hosts[1], std::slice::from_ref(&failure)).await?, 0, "not its port");
    assert_eq!(store_failed(&mut world.conn, host, std::slice::from_ref(&failure)).await?, 1);
    assert_eq!(world.status().await?, ("ERROR".into(), None, "no such interface".into()));
    assert_eq!(store_failed(&mut world.conn, host, std::slice::from_ref(&failure)).await?, 0, "said again");
    assert_eq!(store_failed(&mut world.conn, host, &[]).await?, 1);
    assert_eq!(world.status().await?, ("BUILD".into(), None, String::new()));
    Ok(())
}

#[tokio::test]
async fn a_report_of_another_boot_is_refused_and_renews_no_lease() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    let host = world.hosts[0];
    world.conn.batch_execute("UPDATE host_state SET seen_at = now() - interval '20 s'").await?;
    let seen = |boot: &str| BTreeMap::from([(host, Seen { boot_id: boot.into(), at: Instant::now(), ack: None })]);
    assert_eq!(store_seen(&mut world.conn, &seen("other")).await?, HashSet::from([host]));
    assert!(!holds(&mut world.conn, "SELECT bool_or(seen_at > now() - interval '5 s') FROM host_state").await?);
    assert_eq!(store_seen(&mut world.conn, &seen("b")).await?, HashSet::new());
    assert!(holds(&mut world.conn, "SELECT bool_or(seen_at > now() - interval '5 s') FROM host_state").await?);
    Ok(())
}

fn sorted(findings: &[mizar_db::audit::Finding]) -> Vec<String> {
    let mut texts: Vec<String> = findings.iter().map(|finding| format!("{finding:?}")).collect();
    texts.sort();
    texts
}

#[tokio::test]
async fn the_audit_finds_and_repairs_what_differs_and_nothing_else() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    // Network and subnet were inserted without their entries.
    let found = mizar_db::audit::audit(&mut world.conn).await?;
    assert!(!found.is_empty());
    let conn = &mut world.conn;
    conn.batch_execute("BEGIN").await?;
    assert_eq!(sorted(&mizar_db::audit::repair(conn, &found).await?), sorted(&found));
    conn.batch_execute("COMMIT").await?;
    assert_eq!(mizar_db::audit::audit(conn).await?, []);

    conn.batch_execute(
        "UPDATE entries SET body = '{}' WHERE kind = 7; UPDATE entries SET deleted = true WHERE kind = 8; \
         INSERT INTO entries (scope, kind, key, body) VALUES (1::bigint << 32, 1, int4send(99), '{}'); \
         UPDATE includes SET deleted = true WHERE scope >> 32 = 2",
    )
    .await?;
    let found = mizar_db::audit::audit(conn).await?;
    assert_eq!(found.len(), 5, "{found:?}");
    for page in 1..4 {
        let (mut walk, mut again) = (mizar_db::audit::Walk::in_pages(page), Vec::new());
        while let Some(page) = walk.next(conn).await? {
            again.extend(page);
        }
        assert_eq!(sorted(&again), sorted(&found), "in pages of {page}");
    }
    conn.batch_execute("BEGIN").await?;
    mizar_db::audit::repair(conn, &found).await?;
    conn.batch_execute("COMMIT").await?;
    assert_eq!(mizar_db::audit::audit(conn).await?, []);
    drop(world.db);
    Ok(())
}
