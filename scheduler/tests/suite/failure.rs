//! Lost hosts are replaced; an outage is not mistaken for them.

use crate::cluster::{Cloud, settings};
use anyhow::{Context as _, Result};
use mizar_db::placement::state::Phase;
use mizar_wire::Scope;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_host_is_replaced_and_its_ports_are_down_until_it_returns() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let _scheduler = cloud.schedule(settings());
    let network = cloud.network().await?;
    let subnet = cloud.subnet(&network, 1).await?;
    let before = cloud.full_map(&subnet).await?.shards[0];
    let [lost, other] = before;
    cloud.ports(&network, lost, 3).await?;
    assert_eq!(cloud.statuses().await?, ["BUILD"]);
    cloud.set_live(lost, false);
    let after =
        cloud.mapped(&subnet, |map| !map.shards[0].contains(&lost) && !map.shards[0].contains(&0)).await?.shards[0];
    assert!(after.contains(&other), "{before:?}, {after:?}");
    assert_ne!(Cloud::rack(after[0]), Cloud::rack(after[1]));
    cloud.until_number("SELECT count(*) FROM ports WHERE status = 'DOWN'", 3).await?;
    let reasons = format!("SELECT count(*) FROM ports WHERE status_reason = '{}'", mizar_db::placement::leases::LOST);
    assert_eq!(cloud.number(&reasons).await?, 3);
    // The lost host's role ends although it never acknowledges.
    let scope = Scope::Subnet(subnet.number);
    cloud
        .until("the lost host's role to end", async || Ok((cloud.roles(scope).await?.len() == 2).then_some(())))
        .await?;

    cloud.set_live(lost, true);
    cloud.until_number("SELECT count(*) FROM ports WHERE status = 'BUILD' AND status_reason = ''", 3).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mass_failure_moves_nothing_and_takes_no_port_down() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let _scheduler = cloud.schedule(settings());
    let network = cloud.network().await?;
    let subnet = cloud.subnet(&network, 1).await?;
    let before = cloud.full_map(&subnet).await?;
    cloud.ports(&network, 1, 2).await?;
    cloud.ports(&network, 2, 2).await?;
    let survivor = 4;
    for host in 1..=3 {
        cloud.set_live(host, false);
    }
    // Once a new subnet goes to the survivor alone, the other leases were judged.
    let mut n = 1;
    let second = cloud
        .until("a subnet on the survivor alone", async || {
            n += 1;
            let second = cloud.subnet(&network, n).await?;
            let scope = Scope::Subnet(second.number);
            let holders = cloud
                .until("its holders", async || {
                    let holders: Vec<u32> = cloud.roles(scope).await?.iter().map(|r| r.key.host).collect();
                    Ok((!holders.is_empty()).then_some(holders))
                })
                .await?;
            Ok((holders == [survivor]).then_some(second))
        })
        .await?;
    cloud.mapped(&second, |map| map.shards == [[survivor, 0]]).await?;
    assert_eq!(cloud.shard_map(&subnet).await?, Some(before.clone()));
    let mut holders = cloud.holders(Scope::Subnet(subnet.number), Phase::Active).await?;
    holders.sort_unstable();
    assert_eq!(holders, before.shards[0]);
    assert_eq!(cloud.statuses().await?, ["BUILD"]);

    // The outage ends: still nothing has moved.
    for host in 1..=3 {
        cloud.set_live(host, true);
    }
    cloud.full_map(&second).await?;
    assert_eq!(cloud.shard_map(&subnet).await?, Some(before));
    assert_eq!(cloud.statuses().await?, ["BUILD"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_return_with_their_host_also_under_a_new_leader() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let first = cloud.schedule(settings());
    let network = cloud.network().await?;
    let subnet = cloud.subnet(&network, 1).await?;
    cloud.full_map(&subnet).await?;
    cloud.ports(&network, 3, 2).await?;
    cloud.set_live(3, false);
    cloud.until_number("SELECT count(*) FROM ports WHERE status = 'DOWN'", 2).await?;
    drop(first);
    cloud.set_live(3, true);
    let _second = cloud.schedule(settings());
    cloud.until_number("SELECT count(*) FROM ports WHERE status = 'BUILD'", 2).await?;
    Ok(())
}

/// State, and the hosts whose leases ended together.
async fn condition(cloud: &Cloud) -> Result<(String, Vec<String>)> {
    let read = mizar_db::placement::condition::read(&mut cloud.connect().await?).await?;
    assert!(read.led, "{read:?}");
    Ok((read.state, read.hosts))
}

async fn until_condition(cloud: &Cloud, state: &str, hosts: &[&str]) -> Result<()> {
    let mut last = None;
    let came = cloud
        .until("the state of placement", async || {
            last = Some(condition(cloud).await?);
            Ok(last.as_ref().is_some_and(|(s, h)| s == state && h == hosts).then_some(()))
        })
        .await;
    came.with_context(|| format!("wanted {state} of {hosts:?}, last {last:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_says_that_a_rack_is_really_gone() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let first = cloud.schedule(settings());
    let network = cloud.network().await?;
    let subnet = cloud.subnet(&network, 1).await?;
    let before = cloud.full_map(&subnet).await?;
    cloud.ports(&network, 1, 2).await?;
    until_condition(&cloud, "normal", &[]).await?;
    // Rack 1.
    for host in [1, 2] {
        cloud.set_live(host, false);
    }
    until_condition(&cloud, "frozen", &["h1", "h2"]).await?;
    let since = cloud.number("SELECT extract(epoch FROM since) FROM placement_state").await?;
    assert_eq!(cloud.shard_map(&subnet).await?, Some(before));
    assert_eq!(cloud.statuses().await?, ["BUILD"]);

    // One is vouched for, so the other one is a single loss.
    cloud.execute("UPDATE hosts SET gone_until = now() + interval '1 h' WHERE number = 1").await?;
    until_condition(&cloud, "normal", &[]).await?;
    assert!(cloud.number("SELECT extract(epoch FROM since) FROM placement_state").await? >= since);
    let on_rack_2 = |map: &mizar_wire::body::ShardMap| map.shards[0] == [3, 4];
    cloud.mapped(&subnet, on_rack_2).await?;
    cloud.until_number("SELECT count(*) FROM ports WHERE status = 'DOWN'", 2).await?;
    assert_eq!(cloud.number("SELECT count(*) FROM hosts WHERE lost_since IS NOT NULL").await?, 2);

    // The operator's word has ended; the next leader goes by what was believed, so a new loss is
    // one loss.
    cloud.execute("UPDATE hosts SET gone_until = NULL").await?;
    drop(first);
    let _second = cloud.schedule(settings());
    cloud.until_number("SELECT fence FROM leader", 2).await?;
    cloud.set_live(4, false);
    cloud.mapped(&subnet, |map| map.shards[0] == [3, 0]).await?;
    until_condition(&cloud, "normal", &[]).await?;

    for host in [1, 2, 4] {
        cloud.set_live(host, true);
    }
    cloud.until_number("SELECT count(*) FROM hosts WHERE lost_since IS NOT NULL", 0).await?;
    cloud.until_number("SELECT count(*) FROM ports WHERE status = 'BUILD'", 2).await?;
    let map = cloud.full_map(&subnet).await?;
    assert_ne!(Cloud::rack(map.shards[0][0]), Cloud::rack(map.shards[0][1]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bouncer_that_refuses_an_entry_is_not_listed_until_it_holds_it() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let network = cloud.network().await?;
    let subnet = cloud.subnet(&network, 1).await?;
    let port = cloud.ports(&network, 1, 1).await?.remove(0);
    let scope = Scope::Subnet(subnet.number);
    let refused = "UPDATE host_state SET failures = (SELECT jsonb_agg(jsonb_build_object('scope', scope, 'kind', kind, \
         'key', encode(key, 'hex'), 'reason', 'the map is full')) FROM entries WHERE kind = 8) WHERE host IN (1, 2)";
    assert_eq!(cloud.execute(refused).await?, 2);
    let _scheduler = cloud.schedule(settings());
    let map = cloud.mapped(&subnet, |map| map.shards[0] != [0, 0]).await?;
    let [lo, hi] = map.shards[0];
    assert!(lo > 2 && hi == 0, "{map:?} for {}", port.row.id);
    let pending = cloud.holders(scope, Phase::Pending).await?;
    assert!(pending.len() == 1 && pending[0] <= 2, "{pending:?}");
    cloud.execute("UPDATE host_state SET failures = '[]'").await?;
    let map = cloud.full_map(&subnet).await?;
    assert!(map.shards[0].contains(&pending[0]));
    Ok(())
}
