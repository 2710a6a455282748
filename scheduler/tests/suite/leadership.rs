//! One leads; whoever was deposed writes nothing; whoever dies is followed.

use crate::cluster::{Cloud, settings};
use anyhow::{Context as _, Result};
use mizar_db::placement::Error;
use mizar_db::placement::leader::Candidate;
use mizar_db::placement::roles::{NetworkChange, apply};
use mizar_db::placement::state::{Phase, Role, RoleKey};
use mizar_db::pool::Use;
use mizar_metrics::Operated as _;
use mizar_placement::check::check;
use mizar_placement::{Demand, DemandKey, Host, Rules};
use mizar_scheduler::metrics::Metrics;
use mizar_wire::Scope;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_leads_at_a_time_and_each_has_a_higher_number() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let first = Candidate::connect(cloud.db.url()).await?.try_lead().await?.ok().context("nobody leads")?;
    let second = Candidate::connect(cloud.db.url()).await?;
    let second = second.try_lead().await?.err().context("the first leads")?;
    let fence = first.fence;
    drop(first);
    let mut second = Some(second);
    let second = cloud
        .until("leadership", async || {
            let candidate = second.take().context("a candidate")?;
            match candidate.try_lead().await? {
                Ok(leadership) => Ok(Some(leadership)),
                Err(candidate) => {
                    second = Some(candidate);
                    Ok(None)
                }
            }
        })
        .await?;
    assert!(second.fence > fence);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposed_leader_writes_nothing() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let network = cloud.network().await?;
    let vni = network.row.vni.cast_unsigned();
    let leader = Candidate::connect(cloud.db.url()).await?.try_lead().await?.ok().context("nobody leads")?;
    let key = RoleKey { scope: Scope::Dividers(vni), lo: 0, host: 1, role: Role::Divider };
    let change = NetworkChange {
        network: network.row.id,
        vni,
        roles: BTreeMap::from([(key, Some((4095, Phase::Pending)))]),
        ..NetworkChange::default()
    };
    let pool = cloud.db.pool(1, Use::Commands)?;
    let before = cloud.written().await?;
    // Another one was elected that this one has not heard of.
    cloud.execute("UPDATE leader SET fence = fence + 1").await?;
    let refused = apply(&pool, leader.fence, change.clone()).await;
    assert!(matches!(refused, Err(Error::Deposed { .. })), "{refused:?}");
    assert_eq!(cloud.written().await?, before);
    apply(&pool, leader.fence + 1, change).await?;
    assert_ne!(cloud.written().await?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_over_and_repeats_nothing() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let first = cloud.schedule(settings());
    let network = cloud.network().await?;
    for n in 1..=3 {
        let subnet = cloud.subnet(&network, n).await?;
        cloud.full_map(&subnet).await?;
    }
    cloud.until("dividers", async || Ok(cloud.divider_set(&network).await?.filter(|s| s.pairs.len() == 1))).await?;
    cloud.until_number("SELECT count(*) FROM cluster_keys", 1).await?;
    let before = cloud.written().await?;
    let _second = cloud.schedule(settings());
    drop(first);
    cloud.until_number("SELECT fence FROM leader", 2).await?;
    // A full look is over once a new subnet is served; its own rows aside, nothing was written.
    let other = cloud.network().await?;
    cloud.full_map(&cloud.subnet(&other, 1).await?).await?;
    let rows =
        |text: &str| text.split("Row").map(|row| row.trim_end_matches([',', ' ', ']']).to_owned()).collect::<Vec<_>>();
    let after = rows(&cloud.written().await?);
    let changed: Vec<String> = rows(&before).into_iter().filter(|row| !after.contains(row)).collect();
    assert_eq!(changed, Vec::<String>::new());
    Ok(())
}

/// A real process; ends with this value.
struct Process(Child);

impl Process {
    fn start(url: &str) -> Result<Self> {
        let child = Command::new(env!("CARGO_BIN_EXE_mizar-scheduler"))
            .env("MIZAR_DATABASE_URL", url)
            .env("MIZAR_SHARD_PORTS", "2")
            .env("MIZAR_LOG", "error")
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.0.id().cast_signed()), signal)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Dead already, or dying now; either way it is waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Roles and maps.
const WRITES: &str = "SELECT (SELECT count(*) FROM subscriptions WHERE role > 1) \
     + (SELECT count(*) FROM entries WHERE kind IN (5, 9))";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduler_killed_again_and_again_ends_up_with_a_sound_placement() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let mut networks = Vec::new();
    let mut subnets = Vec::new();
    for n in 0..6u64 {
        let scheduler = Process::start(cloud.db.url())?;
        cloud.until_number("SELECT fence FROM leader", n as i64 + 1).await?;
        let written = cloud.number(WRITES).await?;
        for _ in 0..3 {
            let network = cloud.network().await?;
            subnets.push(cloud.subnet(&network, 1).await?);
            cloud.ports(&network, 1 + (n % 4) as u32, 5).await?;
            networks.push(network);
        }
        // Killed at a different point each time: nothing thought of, some roles pending, some
        // listed, some subnets split. Three networks are 36 rows (per network two dividers and
        // their set, eight bouncers and their map); there may be nothing left of the ones before.
        let enough = written + n as i64 * 7;
        cloud.until("some writes", async || Ok((cloud.number(WRITES).await? >= enough).then_some(()))).await?;
        scheduler.signal(Signal::SIGKILL)?;
        drop(scheduler);
    }
    let scheduler = Process::start(cloud.db.url())?;
    let mut demands = Vec::new();
    for subnet in &subnets {
        let map = cloud.mapped(subnet, |map| map.log2 == 2 && map.shards.iter().flatten().all(|h| *h != 0)).await?;
        for (shard, lo) in map.shards.iter().zip((0u16..4096).step_by(1024)) {
            let key = DemandKey::Shard { subnet: subnet.number, lo };
            demands.push(Demand { key, load: 1, replicas: 2, holders: shard.to_vec() });
        }
        let scope = Scope::Subnet(subnet.number);
        cloud
            .until("roles as the map says", async || {
                let roles = cloud.roles(scope).await?;
                let mut held: Vec<(u16, u32)> = roles.iter().map(|r| (r.key.lo, r.key.host)).collect();
                held.sort_unstable();
                let listed = map.shards.iter().zip((0u16..4096).step_by(1024));
                let mut listed: Vec<(u16, u32)> = listed.flat_map(|(pair, lo)| pair.map(|h| (lo, h))).collect();
                listed.sort_unstable();
                Ok((roles.iter().all(|r| r.phase == Phase::Active) && held == listed).then_some(()))
            })
            .await?;
    }
    let host = |number: u32| Host {
        number,
        az: "az".into(),
        rack: format!("r{}", Cloud::rack(number)),
        transit: Default::default(),
        weight: 1,
        live: true,
    };
    let hosts: Vec<Host> = (1..=4).map(host).collect();
    assert_eq!(check(&hosts, &demands, Rules { epsilon_percent: 1000, ..Rules::default() }), []);

    scheduler.signal(Signal::SIGTERM)?;
    let mut scheduler = scheduler;
    let status = cloud.until("a clean end", async || Ok(scheduler.0.try_wait()?)).await?;
    assert!(status.success(), "{status}");
    Ok(())
}

#[test]
fn a_wrong_configuration_ends_with_64() -> Result<()> {
    let ended = Command::new(env!("CARGO_BIN_EXE_mizar-scheduler"))
        .args(["--database-url", "postgres://nowhere", "--dividers", "0"])
        .stderr(Stdio::piped())
        .output()?;
    assert_eq!(ended.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("--dividers"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_who_leads_what_is_judged_and_whether_the_database_answers() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let network = cloud.network().await?;
    cloud.subnet(&network, 1).await?;
    let (first, second) = (Arc::new(Metrics::default()), Arc::new(Metrics::default()));
    assert!(first.checks().await[0].1.is_some(), "nothing was asked yet");
    let leader = cloud.schedule_measured(settings(), Arc::clone(&first));
    let has = |metrics: &Metrics, line: &str| metrics.encode().is_ok_and(|page| page.lines().any(|have| have == line));
    for line in [
        "mizar_scheduler_leading 1",
        "mizar_scheduler_terms_total 1",
        r#"mizar_scheduler_hosts{state="live"} 4"#,
        r#"mizar_scheduler_roles{role="bouncer",phase="active"} 2"#,
        r#"mizar_scheduler_roles{role="divider",phase="active"} 2"#,
        r#"mizar_scheduler_condition{state="normal"} 1"#,
        r#"mizar_scheduler_condition{state="frozen"} 0"#,
    ] {
        cloud.until(line, async || Ok(has(&first, line).then_some(()))).await?;
    }
    assert_eq!(first.checks().await[0].1, None);
    let _standby = cloud.schedule_measured(settings(), Arc::clone(&second));
    cloud.until("the other to stand by", async || Ok(second.checks().await[0].1.is_none().then_some(()))).await?;
    assert!(has(&second, "mizar_scheduler_leading 0") && !second.encode()?.contains("mizar_scheduler_hosts{"));
    drop(leader);
    cloud.until("the other to lead", async || Ok(has(&second, "mizar_scheduler_leading 1").then_some(()))).await?;
    cloud.until("it is silent", async || Ok(first.checks().await[0].1.is_some().then_some(()))).await?;
    Ok(())
}
