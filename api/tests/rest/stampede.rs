//! 64 clients, one subnet of 1,000 addresses, and a server that may die among them.

use crate::program::Program;
use crate::support::{Answer, Client, Cloud, address, id, until};
use anyhow::{Context as _, ensure};
use futures::future::{join_all, try_join_all};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const CLIENTS: usize = 64;
const ADDRESSES: usize = 1_000;

/// A network whose only subnet gives out 1,000 addresses.
async fn network(client: &Client) -> anyhow::Result<Value> {
    let network = client.make("network", json!({"name": "stampede"})).await?;
    let pool = json!([{"start": "10.0.0.10", "end": "10.0.3.241"}]);
    let subnet = json!({"network_id": network["id"], "cidr": "10.0.0.0/22", "ip_version": 4, "allocation_pools": pool});
    client.make("subnet", subnet).await?;
    Ok(network)
}

/// Addresses in use, as the answers tell: a second owner of one is noticed at once.
#[derive(Default)]
struct Held(Mutex<BTreeSet<Ipv4Addr>>);

impl Held {
    fn took(&self, port: &Value) -> anyhow::Result<()> {
        let fresh = self.0.lock().expect("unpoisoned").insert(address(port));
        ensure!(fresh, "{} has two owners", address(port));
        Ok(())
    }

    /// Before the request, since afterwards somebody else may have it already.
    fn gives(&self, port: &Value) {
        self.0.lock().expect("unpoisoned").remove(&address(port));
    }
}

async fn assert_nothing_is_left(cloud: &Cloud) -> anyhow::Result<()> {
    for leak in
        ["SELECT 1 FROM ports", "SELECT 1 FROM port_ips", "SELECT 1 FROM entries WHERE kind IN (7, 8) AND NOT deleted"]
    {
        assert_eq!(cloud.rows(leak).await?.len(), 0, "{leak}");
    }
    cloud.assert_entries_are_right().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_clients_share_a_thousand_addresses_without_clash_leak_or_server_error() -> anyhow::Result<()> {
    const ROUNDS: usize = 6;
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    let unlimited = "INSERT INTO quotas (project_id, resource, max) VALUES";
    cloud.sql(&format!("{unlimited} ('{}', 'port', -1)", admin.project)).await?;
    let (network, held) = (network(&admin).await?, Held::default());
    let body = json!({"port": {"network_id": network["id"]}});
    // Ports come and go.
    let churn = (0..CLIENTS).map(|_| async {
        for _ in 0..ROUNDS {
            let port = admin.post("/v2.0/ports", &body).await?.ok(201)?["port"].take();
            held.took(&port)?;
            held.gives(&port);
            admin.remove("port", &port).await?.ok(204)?;
        }
        anyhow::Ok(())
    });
    try_join_all(churn).await?;
    assert_nothing_is_left(&cloud).await?;

    // More ports than addresses: each address goes to one, the rest is told.
    let fill = (0..CLIENTS).map(|_| async {
        let mut made = Vec::new();
        for _ in 0..ADDRESSES / CLIENTS + 1 {
            let mut answer = admin.post("/v2.0/ports", &body).await?;
            match answer.fault() {
                (201, _) => {
                    let port = answer.body["port"].take();
                    held.took(&port)?;
                    made.push(port);
                }
                (409, "IpAddressGenerationFailure") => {}
                other => anyhow::bail!("{other:?}: {}", answer.text),
            }
        }
        anyhow::Ok(made)
    });
    let ports = try_join_all(fill).await?;
    assert_eq!(ports.iter().map(Vec::len).sum::<usize>(), ADDRESSES);
    cloud.assert_entries_are_right().await?;
    let admin = &admin;
    let empty = ports.iter().map(|mine| async move {
        for port in mine {
            admin.remove("port", port).await?.ok(204)?;
        }
        anyhow::Ok(())
    });
    try_join_all(empty).await?;
    assert_nothing_is_left(&cloud).await?;
    let used = "SELECT sum(used) FROM quota_stripes WHERE resource = 'port'";
    assert_eq!(cloud.rows(used).await?, ["0"], "the count of what is used forgot or kept one");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_below_what_sixty_four_clients_want_is_never_passed_by_one() -> anyhow::Result<()> {
    const LIMIT: usize = 100;
    const ROUNDS: usize = 6;
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    let quota = format!("/v2.0/quotas/{}", admin.project);
    admin.put(&quota, Some(&json!({"quota": {"port": LIMIT}}))).await?.ok(200)?;
    let (network, held) = (network(&admin).await?, Held::default());
    let port = json!({"network_id": network["id"]});
    let over = AtomicUsize::new(0);
    let clients = (0..CLIENTS).map(|client| {
        let (admin, held, over, port) = (&admin, &held, &over, &port);
        async move {
            let mut mine = Vec::new();
            for round in 0..ROUNDS {
                // One by one, and several at once.
                let count = 1 + (client + round) % 3;
                let mut answer = admin.post("/v2.0/ports", &json!({"ports": vec![port; count]})).await?;
                match answer.fault() {
                    (201, _) => {
                        for port in answer.body["ports"].as_array_mut().into_iter().flatten() {
                            held.took(port)?;
                            mine.push(port.take());
                        }
                        let now = held.0.lock().expect("unpoisoned").len();
                        ensure!(now <= LIMIT, "{now} ports are there at once");
                    }
                    (409, "OverQuota") => {
                        over.fetch_add(1, Ordering::Relaxed);
                        let Some(port) = mine.pop() else { continue };
                        held.gives(&port);
                        admin.remove("port", &port).await?.ok(204)?;
                    }
                    other => anyhow::bail!("{other:?}: {}", answer.text),
                }
            }
            anyhow::Ok(mine)
        }
    });
    // What is committed at any one moment, seen from outside.
    let done = std::sync::atomic::AtomicBool::new(false);
    let watch = async {
        let mut most = 0;
        while !done.load(Ordering::Relaxed) {
            let seen: usize = cloud.rows("SELECT count(*) FROM ports").await?.concat().parse()?;
            ensure!(seen <= LIMIT, "{seen} ports are there at once");
            most = most.max(seen);
        }
        anyhow::Ok(most)
    };
    let work = async {
        let ended = try_join_all(clients).await;
        done.store(true, Ordering::Relaxed);
        ended
    };
    let (ports, most) = futures::join!(work, watch);
    let (ports, most) = (ports?.concat(), most?);
    assert!(over.load(Ordering::Relaxed) > 0 && most > LIMIT / 2, "{most} at most: there was no demand");
    let used = "SELECT sum(used) FROM quotas WHERE resource = 'port'";
    assert_eq!(cloud.rows(used).await?, [ports.len().to_string()]);

    // Nor does it hold back what is allowed: to the last one, and not one more.
    let mut rest = Vec::new();
    for _ in ports.len()..LIMIT {
        rest.push(admin.make("port", port.clone()).await?);
    }
    assert_eq!(admin.post("/v2.0/ports", &json!({"port": port})).await?.fault(), (409, "OverQuota"));
    for port in ports.iter().chain(&rest) {
        admin.remove("port", port).await?.ok(204)?;
    }
    assert_nothing_is_left(&cloud).await?;
    assert_eq!(cloud.rows(used).await?, ["0"], "the quota forgot or kept one");
    Ok(())
}

/// What a client knows when the server is gone.
#[derive(Default)]
struct Known {
    /// A 201 came, and no delete was sent.
    there: Vec<Value>,
    /// A 204 came.
    gone: Vec<String>,
    /// Requests that were answered.
    answered: usize,
}

/// Makes ports and deletes every second one, and one that it kept whenever the quota is used up, until the
/// server does not answer. Where it answers that it is overloaded, nothing has happened.
async fn work(client: &Client, body: &Value, answered: &AtomicUsize) -> anyhow::Result<Known> {
    let mut known = Known::default();
    let count = |answer: Answer, status| {
        answered.fetch_add(1, Ordering::Relaxed);
        answer.ok(status)
    };
    for round in 0.. {
        let Ok(answer) = client.post("/v2.0/ports", body).await else { break };
        let port = match answer.fault() {
            (503, _) => continue,
            (409, "OverQuota") => match known.there.pop() {
                Some(port) => port,
                None => continue,
            },
            _ => {
                let port = count(answer, 201)?["port"].take();
                known.answered += 1;
                if round % 2 == 0 {
                    known.there.push(port);
                    continue;
                }
                port
            }
        };
        let Ok(answer) = client.remove("port", &port).await else { break };
        if answer.status == 503 {
            known.there.push(port);
            continue;
        }
        count(answer, 204)?;
        known.answered += 1;
        known.gone.push(id(&port).to_owned());
    }
    Ok(known)
}

async fn eventually(what: &str, cloud: &Cloud, query: &str) -> anyhow::Result<()> {
    until(what, async || Ok(cloud.rows(query).await?.is_empty())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_before_a_kill_is_in_the_database_and_nothing_is_half_done() -> anyhow::Result<()> {
    const LIMIT: usize = 100;
    let cloud = Cloud::start().await?;
    let admin = cloud.admin().await?;
    let quota = format!("/v2.0/quotas/{}", admin.project);
    admin.put(&quota, Some(&json!({"quota": {"port": LIMIT}}))).await?.ok(200)?;
    let body = json!({"port": {"network_id": network(&admin).await?["id"]}});
    for enough in [1, 150, 400] {
        let program = Program::start(&cloud, &[]).await?;
        let (client, answered) = (program.client(&admin), AtomicUsize::new(0));
        let workers = join_all((0..CLIENTS).map(|_| work(&client, &body, &answered)));
        let kill = async {
            let deadline = Instant::now() + Duration::from_secs(180);
            while answered.load(Ordering::Relaxed) < enough {
                ensure!(Instant::now() < deadline, "only {} answers", answered.load(Ordering::Relaxed));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            program.kill().await
        };
        let (done, killed) = futures::join!(workers, kill);
        killed?;
        let known: Vec<Known> = done.into_iter().collect::<anyhow::Result<_>>()?;
        // What its connections were doing ends with a rollback, or with the commit they had asked for.
        let busy = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL \
                    AND pid <> pg_backend_pid()";
        eventually("its transactions end", &cloud, busy).await?;

        let stored: BTreeSet<String> = cloud.rows("SELECT id FROM ports").await?.into_iter().collect();
        for known in &known {
            let lost: Vec<_> = known.there.iter().map(id).filter(|id| !stored.contains(*id)).collect();
            ensure!(lost.is_empty(), "answered 201 and not stored: {lost:?}");
            let undead: Vec<_> = known.gone.iter().filter(|id| stored.contains(*id)).collect();
            ensure!(undead.is_empty(), "answered 204 and still stored: {undead:?}");
        }
        // At most one request of each client was cut off.
        let there: usize = known.iter().map(|known| known.there.len()).sum();
        let answers: usize = known.iter().map(|known| known.answered).sum();
        assert!(answers >= enough && stored.len() >= there && stored.len() <= there + CLIENTS);
        let half = "SELECT p.id FROM ports p WHERE (SELECT count(*) FROM port_ips i WHERE i.port_id = p.id) <> 1";
        assert_eq!(cloud.rows(half).await?, Vec::<String>::new());
        // Quota and audit log are of the same transactions.
        assert!(stored.len() <= LIMIT, "{} of {LIMIT} ports", stored.len());
        let used = cloud.rows("SELECT sum(used) FROM quotas WHERE resource = 'port'").await?;
        assert_eq!(used, [stored.len().to_string()]);
        let unsaid = "SELECT id FROM ports p WHERE NOT EXISTS (SELECT FROM audit_events e WHERE e.object_id = p.id)";
        assert_eq!(cloud.rows(unsaid).await?, Vec::<String>::new());
        cloud.assert_entries_are_right().await?;
        for id in &stored {
            admin.delete(&format!("/v2.0/ports/{id}")).await?.ok(204).context("the next server cannot delete it")?;
        }
        assert_nothing_is_left(&cloud).await?;
    }
    Ok(())
}
