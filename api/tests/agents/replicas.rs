//! Two replicas under load: agents that change between them at every poll miss nothing, and each
//! port becomes ACTIVE once, whichever replica hears the last acknowledgement.

use crate::held::Held;
use crate::server::{Agent, Server, until};
use anyhow::{Context as _, ensure};
use diesel::sql_types::BigInt;
use diesel::{QueryDsl as _, QueryableByName, SelectableHelper as _, sql_query};
use diesel_async::{AsyncConnection as _, AsyncPgConnection, RunQueryDsl as _};
use mizar_db::ledger::Ledger;
use mizar_db::listing::Visibility;
use mizar_db::resources::network::{self, Network};
use mizar_db::resources::{Failure, port, port_commands, subnet};
use mizar_db::schema::ports;
use mizar_domain::id::{NetworkId, PortId, ProjectId, SubnetId};
use mizar_domain::network::{CreateNetwork, NetworkExtras};
use mizar_domain::patch::Patch;
use mizar_domain::port::{CreatePort, UpdatePort, VnicType};
use mizar_domain::port_extras::PortExtras;
use mizar_domain::subnet::{CreateSubnet, SubnetExtras};
use mizar_domain::text::{Name, Tags};
use mizar_wire::sync::PortWiring;
use mizar_wire::{Kind, Scope};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use uuid::Uuid;

/// Clients that send commands at once.
const WRITERS: usize = 4;
/// Ports that each makes; every third goes again.
const PORTS: usize = 45;

async fn number(conn: &mut AsyncPgConnection, query: &str) -> anyhow::Result<i64> {
    #[derive(QueryableByName)]
    struct One {
        #[diesel(sql_type = BigInt)]
        n: i64,
    }
    let one: One = sql_query(format!("SELECT ({query})::bigint AS n")).get_result(conn).await?;
    Ok(one.n)
}

/// A network with one subnet that `bouncers` hold.
async fn make_network(server: &Server, bouncers: &[u32]) -> anyhow::Result<Network> {
    let mut conn = server.db.connect().await?;
    let command = CreateNetwork {
        id: NetworkId::random(),
        project: ProjectId::random(),
        name: Name::default(),
        description: Name::default(),
        admin_up: true,
        mtu: None,
        shared: false,
        external: false,
        port_security: true,
        vni: None,
        tags: Tags::default(),
        extras: NetworkExtras::default(),
    };
    let made = conn.transaction::<_, Failure, _>(async |conn| network::create(conn, 1500, &[command]).await).await?;
    let network = made.into_iter().next().context("one network")?;
    let command = CreateSubnet {
        id: SubnetId::random(),
        project: network.row.project_id.into(),
        network: network.row.id.into(),
        name: Name::default(),
        description: Name::default(),
        cidr: "10.0.0.0/16".parse()?,
        gateway: Patch::Keep,
        pools: None,
        dhcp: true,
        dns: Vec::new(),
        routes: Vec::new(),
        tags: Tags::default(),
        extras: SubnetExtras::default(),
    };
    let create = async |conn: &mut AsyncPgConnection| subnet::create(conn, Visibility::All, &[command]).await;
    let made = conn.transaction::<_, Failure, _>(create).await?;
    let subnet = made.into_iter().next().context("one subnet")?;
    let scope = Scope::Subnet(subnet.number.cast_unsigned()).to_i64();
    for host in bouncers {
        server
            .sql(&format!("INSERT INTO subscriptions (host, scope, role, state) VALUES ({host}, {scope}, 2, 2)"))
            .await?;
    }
    Ok(network)
}

fn new_port(network: &Network, host: &str) -> CreatePort {
    CreatePort {
        id: PortId::random(),
        project: network.row.project_id.into(),
        network: network.row.id.into(),
        name: Name::default(),
        description: Name::default(),
        admin_up: true,
        mac: None,
        fixed_ips: None,
        device_id: Name::default(),
        device_owner: Name::default(),
        pairs: Vec::new(),
        port_security: None,
        security_groups: None,
        host: Some(host.to_owned()),
        vnic_type: VnicType::Normal,
        profile: serde_json::json!({}),
        tags: Tags::default(),
        extras: PortExtras::default(),
        qos_policy: None,
    }
}

async fn find(conn: &mut AsyncPgConnection, id: Uuid) -> Result<port::Port, Failure> {
    let rows = ports::table.find(id).select(port::PortRow::as_select()).load(conn).await?;
    port::complete(conn, rows).await?.into_iter().next().ok_or(Failure::Contended)
}

/// Makes, renames and deletes ports. Nothing is tried again: a deadlock fails the test.
async fn write(mut conn: AsyncPgConnection, network: Network) -> anyhow::Result<()> {
    for n in 0..PORTS {
        let commands = [new_port(&network, ["a", "d"][n % 2])];
        let create = async |conn: &mut AsyncPgConnection| {
            port_commands::create(conn, &mut Ledger::default(), Visibility::All, &commands).await
        };
        let made = conn.transaction::<_, Failure, _>(create).await?;
        let id = made.as_slice().first().context("one port")?.row.id;
        let change = async |conn: &mut AsyncPgConnection| {
            let network = port_commands::lock(conn, id).await?.ok_or(Failure::Contended)?;
            let port = find(conn, id).await?;
            if n % 3 == 2 {
                return port_commands::delete(conn, network, &port).await;
            }
            // A change of its entries at its host and at its bouncers.
            let command = UpdatePort { admin_up: Some(n % 3 == 0), ..UpdatePort::default() };
            port_commands::update(conn, Visibility::All, network, port, &command).await.map(drop)
        };
        conn.transaction::<_, Failure, _>(change).await?;
    }
    Ok(())
}

/// Polls one replica after the other, wires what it is told of, until it is to stop; returns what
/// it holds.
async fn follow(mut agent: Agent, urls: [String; 2], stop: watch::Receiver<bool>) -> anyhow::Result<(Agent, Held)> {
    let mut held = Held::by(&mut agent).await?;
    let (mut wired, mut turn) = (Vec::new(), 0);
    loop {
        agent.url.clone_from(&urls[turn % 2]);
        turn += 1;
        let stopped = *stop.borrow();
        let mut request = agent.request(1);
        request.ports.wired = std::mem::take(&mut wired);
        let reply = agent.sync_with(&request).await?;
        held.hear(&reply);
        for change in reply.changes.iter().filter(|change| change.kind == Kind::Port as i16) {
            let Some(body) = &change.body else { continue };
            let field = |name: &str| body[name].as_u64().and_then(|n| u32::try_from(n).ok()).context("a number");
            wired.push(PortWiring { port: field("number")?, generation: field("generation")? });
        }
        if stopped && reply.changes.is_empty() && wired.is_empty() {
            return Ok((agent, held));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_under_load_miss_nothing_and_promote_each_port_once() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let other = server.replica().await?;
    let mut agents = Vec::new();
    for (name, last) in [("a", 1), ("b", 2), ("c", 3), ("d", 4)] {
        agents.push(server.agent(name, last).await?);
    }
    let network = make_network(&server, &[agents[1].number, agents[2].number]).await?;
    server
        .sql(
            "CREATE TABLE promotions (port uuid NOT NULL); \
             CREATE FUNCTION promoted() RETURNS trigger LANGUAGE plpgsql AS \
               $$ BEGIN INSERT INTO promotions VALUES (NEW.id); RETURN NULL; END $$; \
             CREATE TRIGGER promoted AFTER UPDATE ON ports FOR EACH ROW \
               WHEN (OLD.status <> 'ACTIVE' AND NEW.status = 'ACTIVE') EXECUTE FUNCTION promoted()",
        )
        .await?;
    let (stop, stopped) = watch::channel(false);
    let follow_both = |agent: Agent| {
        let name = agent.url.rsplit('/').next().unwrap_or_default().to_owned();
        let at = |address| format!("https://{address}/agent/v1/hosts/{name}");
        let urls = [at(server.agents.address()), at(other.address())];
        tokio::spawn(follow(agent, urls, stopped.clone()))
    };
    let following: Vec<_> = agents.into_iter().map(follow_both).collect();
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        writers.push(tokio::spawn(write(server.db.connect().await?, network.clone())));
    }
    for writer in writers {
        writer.await??;
    }
    // Of three ports one stays up, one is put down by its administrator, one goes.
    let up = (WRITERS * PORTS / 3) as i64;
    until("every port that is up is active", || async {
        let mut conn = server.db.connect().await?;
        Ok(number(&mut conn, "SELECT count(*) FROM ports WHERE status = 'ACTIVE'").await? == up)
    })
    .await?;
    stop.send_replace(true);
    for task in following {
        let (mut agent, mut held) = task.await??;
        // A reply may be empty because this replica has not read the last change yet.
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            held.hear(&agent.sync(0).await?);
            let mut fresh = server.stranger("a")?;
            (fresh.client, fresh.url) = (agent.client.clone(), agent.url.clone());
            let truth = Held::by(&mut fresh).await?;
            if held == truth {
                break;
            }
            let counts = (held.0.len(), truth.0.len());
            ensure!(Instant::now() < deadline, "{} holds {} of {} entries, or others", agent.url, counts.0, counts.1);
        }
        ensure!(!held.0.is_empty());
    }
    let mut conn = server.db.connect().await?;
    let again = "SELECT count(*) FROM (SELECT FROM promotions GROUP BY port HAVING count(*) > 1) p";
    assert_eq!(number(&mut conn, again).await?, 0);
    let never = "SELECT count(*) FROM ports p WHERE status = 'ACTIVE' AND NOT EXISTS \
                 (SELECT FROM promotions WHERE port = p.id)";
    assert_eq!(number(&mut conn, never).await?, 0);
    assert_eq!(mizar_db::audit::audit(&mut conn).await?, []);

    // What the reporters tried again is counted when their connections end.
    let Server { db, agents, .. } = server;
    agents.stop().await;
    other.stop().await;
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    until("the replicas' connections end", || async { Ok(number(&mut db.connect().await?, others).await? <= 1) })
        .await?;
    drop(conn);
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(number(&mut db.connect().await?, deadlocks).await?, 0);
    Ok(())
}
