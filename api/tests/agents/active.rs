//! From a bound port to ACTIVE, by what agents say.

use crate::server::{Agent, Server, expect, until};
use diesel::sql_types::Text;
use diesel::{QueryableByName, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use mizar_compile::{Object, create};
use mizar_domain::id::PortId;
use mizar_domain::mac::Mac;
use mizar_domain::model::{BoundPort, FixedIp, slot};
use mizar_wire::sync::{Failure, PortWiring};
use mizar_wire::{Kind, Scope};
use reqwest::StatusCode;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};
use uuid::Uuid;

pub const NETWORK: Uuid = Uuid::from_u128(1);
pub const SUBNET: u32 = 1;

/// One network and subnet; `b` bounces for all of it.
pub async fn world(server: &Server) -> anyhow::Result<(Agent, Agent)> {
    let mut a = server.agent("a", 1).await?;
    let mut b = server.agent("b", 2).await?;
    server
        .sql(&format!(
            "INSERT INTO networks (id, project_id, vni, mtu) VALUES ('{NETWORK}', '{NETWORK}', 5000, 1398); \
             INSERT INTO subnets (id, project_id, network_id, number, ip_version, cidr) \
               VALUES ('{NETWORK}', '{NETWORK}', '{NETWORK}', {SUBNET}, 4, '10.0.0.0/16'); \
             INSERT INTO subscriptions (host, scope, role, state) VALUES ({}, {}, 2, 2)",
            b.number,
            Scope::Subnet(SUBNET).to_i64(),
        ))
        .await?;
    // Each other's address, and b its role.
    a.sync(5).await?;
    b.sync(5).await?;
    Ok((a, b))
}

/// As the API does it: rows and entries in one transaction.
pub async fn create_port(conn: &mut AsyncPgConnection, host: u32, number: u32) -> anyhow::Result<PortId> {
    let address = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number));
    let port = BoundPort {
        id: PortId::random(),
        number,
        generation: 1,
        name: String::new(),
        vni: 5000,
        mac: Mac([2, 0, 0, 0, (number >> 8) as u8, number as u8]),
        fixed_ips: vec![FixedIp { subnet: SUBNET, address }],
        pairs: vec![],
        port_security: true,
        admin_up: true,
        set: None,
        dhcp_options: Vec::new(),
        host: Some(host),
        moved_from: None,
    };
    conn.batch_execute(&format!(
        "BEGIN; INSERT INTO ports (id, project_id, network_id, number, mac, host, generation, status) \
           VALUES ('{0}', '{NETWORK}', '{NETWORK}', {number}, '{1}', {host}, 1, 'BUILD'); \
         INSERT INTO port_ips (subnet_id, address, network_id, port_id, position, slot) \
           VALUES ('{NETWORK}', '{address}', '{NETWORK}', '{0}', 0, {2})",
        port.id,
        port.mac,
        slot(SUBNET, address),
    ))
    .await?;
    mizar_db::entries::apply(conn, &create(Object::Port(&port))).await?;
    conn.batch_execute("COMMIT").await?;
    Ok(port.id)
}

pub async fn status(conn: &mut AsyncPgConnection, number: u32) -> anyhow::Result<(String, String)> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        status: String,
        #[diesel(sql_type = Text)]
        status_reason: String,
    }
    let row: Row =
        sql_query(format!("SELECT status, status_reason FROM ports WHERE number = {number}")).get_result(conn).await?;
    Ok((row.status, row.status_reason))
}

async fn becomes(server: &Server, number: u32, wanted: &str) -> anyhow::Result<()> {
    until(&format!("{wanted} of port {number}"), || async {
        Ok(status(&mut server.db.connect().await?, number).await?.0 == wanted)
    })
    .await
}

const WIRED: PortWiring = PortWiring { port: 7, generation: 1 };

#[tokio::test]
async fn a_port_comes_up_and_goes_down_as_its_agents_say() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let (mut a, mut b) = world(&server).await?;
    let mut conn = server.db.connect().await?;
    create_port(&mut conn, a.number, 7).await?;

    a.told(Kind::Port, 1).await?;
    let mut request = a.request(0);
    request.ports.wired.push(WIRED);
    a.sync_with(&request).await?;
    assert_eq!(status(&mut conn, 7).await?.0, "BUILD", "the bouncer has not acknowledged");
    b.told(Kind::Bounce, 1).await?;
    b.sync(0).await?;
    becomes(&server, 7, "ACTIVE").await?;

    let mut request = a.request(0);
    request.ports.lost.push(WIRED);
    a.sync_with(&request).await?;
    assert_eq!(status(&mut conn, 7).await?.0, "DOWN", "stored before the answer");
    let mut request = a.request(0);
    request.ports.wired.push(WIRED);
    a.sync_with(&request).await?;
    assert_eq!(status(&mut conn, 7).await?.0, "ACTIVE", "the bouncer still holds it");
    Ok(())
}

#[tokio::test]
async fn what_a_restarted_agent_does_not_name_is_lost() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let (mut a, mut b) = world(&server).await?;
    let mut conn = server.db.connect().await?;
    for number in [7, 8] {
        create_port(&mut conn, a.number, number).await?;
    }
    let mut request = a.request(0);
    request.ports.wired = vec![WIRED, PortWiring { port: 8, generation: 1 }];
    a.sync_with(&request).await?;
    b.told(Kind::Bounce, 2).await?;
    b.sync(0).await?;
    becomes(&server, 7, "ACTIVE").await?;
    becomes(&server, 8, "ACTIVE").await?;

    let mut request = a.request(0);
    request.ports.wired = vec![WIRED];
    request.ports_complete = true;
    a.sync_with(&request).await?;
    assert_eq!([status(&mut conn, 7).await?.0, status(&mut conn, 8).await?.0], ["ACTIVE", "DOWN"]);
    Ok(())
}

#[tokio::test]
async fn a_port_is_active_once_its_last_bouncer_is_made_active_by_the_scheduler() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let (mut a, mut b) = world(&server).await?;
    server.sql("UPDATE subscriptions SET state = 1 WHERE role = 2").await?;
    let mut conn = server.db.connect().await?;
    create_port(&mut conn, a.number, 7).await?;
    let mut request = a.request(0);
    request.ports.wired.push(WIRED);
    a.sync_with(&request).await?;
    b.told(Kind::Bounce, 1).await?;
    b.sync(0).await?;
    assert_eq!(status(&mut conn, 7).await?.0, "BUILD", "no bouncer is active");
    server.sql("UPDATE subscriptions SET state = 2 WHERE role = 2").await?;
    becomes(&server, 7, "ACTIVE").await
}

/// Port 7 on the host of `a`, which cannot program it.
async fn fails(server: &Server, a: &mut Agent) -> anyhow::Result<()> {
    let id = create_port(&mut server.db.connect().await?, a.number, 7).await?;
    a.told(Kind::Port, 1).await?;
    let mut request = a.request(0);
    let failure = Failure {
        scope: Scope::Host(a.number).to_i64(),
        kind: Kind::Port as i16,
        key: id.uuid().simple().to_string(),
        reason: "the map is full".into(),
    };
    request.ack.as_mut().expect("an acknowledgement").failures.push(failure);
    a.sync_with(&request).await?;
    becomes(server, 7, "ERROR").await
}

#[tokio::test]
async fn a_failure_is_what_the_tenant_reads_until_it_is_gone() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let (mut a, _b) = world(&server).await?;
    let mut conn = server.db.connect().await?;
    fails(&server, &mut a).await?;
    assert_eq!(status(&mut conn, 7).await?.1, "the map is full");
    a.sync(0).await?;
    becomes(&server, 7, "BUILD").await
}

#[tokio::test]
async fn a_failure_that_ended_while_nothing_could_be_stored_is_taken_back_afterwards() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let (mut a, _b) = world(&server).await?;
    let mut conn = server.db.connect().await?;
    fails(&server, &mut a).await?;

    server.sql("ALTER TABLE host_state RENAME TO away").await?;
    let mut request = a.request(0);
    // A report that is answered when it is stored.
    request.ports.lost.push(PortWiring { port: 8, generation: 1 });
    expect(a.post(&request).await?, StatusCode::SERVICE_UNAVAILABLE).await?;
    server.sql("ALTER TABLE away RENAME TO host_state").await?;
    assert_eq!(status(&mut conn, 7).await?.0, "ERROR");
    a.sync(0).await?;
    becomes(&server, 7, "BUILD").await
}

#[tokio::test]
async fn hosts_cannot_report_on_ports_that_are_not_theirs() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let (a, mut b) = world(&server).await?;
    let mut conn = server.db.connect().await?;
    create_port(&mut conn, a.number, 7).await?;
    let mut request = b.request(0);
    request.ports.wired.push(WIRED);
    b.sync_with(&request).await?;
    b.sync(0).await?;
    let mut request = b.request(0);
    request.ports.lost.push(WIRED);
    b.sync_with(&request).await?;
    assert_eq!(status(&mut conn, 7).await?.0, "BUILD");
    Ok(())
}

/// The two agents at work, as fast as they can; the data plane takes no time here.
async fn work(mut agent: Agent, rounds: usize) -> anyhow::Result<()> {
    let (mut seen, mut wired, mut news) = (0, Vec::new(), false);
    while seen < rounds || news {
        // With something to say it does not wait.
        let mut request = agent.request(if news { 0 } else { 5 });
        request.ports.wired = std::mem::take(&mut wired);
        let reply = agent.sync_with(&request).await?;
        news = !reply.changes.is_empty();
        for change in reply.changes {
            seen += usize::from(change.kind == Kind::Bounce as i16 || change.kind == Kind::Port as i16);
            if change.kind == Kind::Port as i16 {
                let number = change.body.as_ref().and_then(|body| body["number"].as_u64()).unwrap_or_default();
                wired.push(PortWiring { port: number as u32, generation: 1 });
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_that_are_made_one_after_the_other_become_active() -> anyhow::Result<()> {
    const ROUNDS: u32 = 60;
    let server = Server::start().await?;
    let (a, b) = world(&server).await?;
    let host = a.number;
    let agents = [tokio::spawn(work(a, ROUNDS as usize)), tokio::spawn(work(b, ROUNDS as usize))];
    let mut conn = server.db.connect().await?;
    let mut took = Vec::new();
    for number in 100..100 + ROUNDS {
        create_port(&mut conn, host, number).await?;
        let start = Instant::now();
        while status(&mut conn, number).await?.0 != "ACTIVE" {
            anyhow::ensure!(start.elapsed() < Duration::from_secs(20), "port {number} stays in BUILD");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        took.push(start.elapsed());
    }
    for agent in agents {
        agent.await??;
    }
    took.sort();
    println!("commit to ACTIVE: p50 {:?}, worst {:?}", took[took.len() / 2], took[took.len() - 1]);
    Ok(())
}
