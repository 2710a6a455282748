//! Roles come where they belong, in phases, and move with labels.

use crate::cluster::{Cloud, settings};
use anyhow::Result;
use mizar_db::placement::state::Phase;
use mizar_scheduler::Settings;
use mizar_wire::Scope;
use std::collections::BTreeSet;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_subnet_has_bouncers_and_dividers_in_different_racks() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let _scheduler = cloud.schedule(settings());
    // The scheduler leads, so that what is timed is its reaction.
    cloud.until_number("SELECT fence FROM leader", 1).await?;
    let first = cloud.network().await?;
    cloud.full_map(&cloud.subnet(&first, 1).await?).await?;

    let network = cloud.network().await?;
    let subnet = cloud.subnet(&network, 1).await?;
    let started = Instant::now();
    let map = cloud.full_map(&subnet).await?;
    println!("bouncers listed {:?} after the subnet's creation", started.elapsed());
    assert_eq!((map.subnet, map.log2, map.shards.len()), (subnet.number, 0, 1));
    let [a, b] = map.shards[0];
    assert_ne!(Cloud::rack(a), Cloud::rack(b), "{map:?}");
    let set =
        cloud.until("dividers", async || Ok(cloud.divider_set(&network).await?.filter(|s| s.pairs.len() == 1))).await?;
    let [a, b] = set.pairs[0];
    assert_ne!(Cloud::rack(a), Cloud::rack(b), "{set:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_is_listed_only_once_it_has_acknowledged() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    for host in 1..=4 {
        cloud.set_deaf(host, true);
    }
    let _scheduler = cloud.schedule(settings());
    let network = cloud.network().await?;
    let subnet = cloud.subnet(&network, 1).await?;
    let scope = Scope::Subnet(subnet.number);
    let pending = cloud
        .until("pending holders", async || {
            let pending = cloud.holders(scope, Phase::Pending).await?;
            Ok((pending.len() == 2).then_some(pending))
        })
        .await?;
    // A second subnet is placed later, so whatever was to happen to the first has happened.
    let second = cloud.subnet(&network, 2).await?;
    cloud
        .until("the second subnet's holders", async || {
            let pending = cloud.holders(Scope::Subnet(second.number), Phase::Pending).await?;
            Ok((pending.len() == 2).then_some(()))
        })
        .await?;
    assert_eq!(cloud.shard_map(&subnet).await?, None, "nobody has acknowledged");
    cloud.set_deaf(pending[0], false);
    let map = cloud.mapped(&subnet, |_| true).await?;
    assert_eq!(map.shards, [[pending[0], 0]]);
    cloud.set_deaf(pending[1], false);
    cloud.mapped(&subnet, |map| map.shards == [[pending[0], pending[1]]]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_label_moves_roles_and_never_leaves_a_shard_without_two_holders() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let _scheduler = cloud.schedule(settings());
    let network = cloud.network().await?;
    let subnet = cloud.subnet(&network, 1).await?;
    let before = cloud.full_map(&subnet).await?.shards[0];
    cloud.label(before[0], "no").await?;
    let started = Instant::now();
    // Every map on the way lists two: the new holder before the old one goes.
    let after = cloud
        .until("a map without the host", async || {
            let map = cloud.shard_map(&subnet).await?.expect("a map, once written, stays");
            assert!(map.shards[0].iter().all(|host| *host != 0), "{map:?}");
            Ok((!map.shards[0].contains(&before[0])).then_some(map.shards[0]))
        })
        .await?;
    println!("role moved {:?} after the label", started.elapsed());
    assert!(after.contains(&before[1]), "the other holder had no reason to move: {before:?}, {after:?}");
    let scope = Scope::Subnet(subnet.number);
    cloud
        .until("the former holder to go", async || {
            let roles = cloud.roles(scope).await?;
            Ok((roles.iter().all(|r| r.phase == Phase::Active) && roles.len() == 2).then_some(()))
        })
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_holder_forwards_until_every_live_sender_has_the_new_map() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let _scheduler = cloud.schedule(settings());
    let network = cloud.network().await?;
    let subnet = cloud.subnet(&network, 1).await?;
    let before = cloud.full_map(&subnet).await?.shards[0];
    // A sender that is neither the former nor the next holder, and that will not acknowledge.
    let (leaving, staying) = (before[0], before[1]);
    let next = (1..=4).find(|h| *h != leaving && Cloud::rack(*h) == Cloud::rack(leaving)).expect("two in a rack");
    let sender = (1..=4).find(|h| ![leaving, staying, next].contains(h)).expect("a fourth");
    cloud.ports(&network, sender, 1).await?;
    cloud.set_deaf(sender, true);
    cloud.label(leaving, "no").await?;
    cloud.mapped(&subnet, |map| !map.shards[0].contains(&leaving)).await?;
    let scope = Scope::Subnet(subnet.number);
    // Another subnet comes and settles meanwhile, its drain time passes: the holder still waits.
    let other = cloud.network().await?;
    let second = cloud.subnet(&other, 1).await?;
    // (The deaf sender may be one of its two holders.)
    cloud.mapped(&second, |_| true).await?;
    let drain = settings().drain;
    let changed = cloud.roles(scope).await?.into_iter().find(|r| r.key.host == leaving).map(|r| r.changed);
    let changed = changed.expect("still there");
    cloud
        .until("the drain time", async || {
            let now = mizar_db::placement::state::clock(&mut cloud.connect().await?).await?;
            Ok((now > changed + drain * 3).then_some(()))
        })
        .await?;
    assert_eq!(cloud.holders(scope, Phase::Draining).await?, [leaving]);
    cloud.set_deaf(sender, false);
    cloud.until("the end", async || Ok(cloud.holders(scope, Phase::Draining).await?.is_empty().then_some(()))).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subnet_that_grows_splits_and_its_halves_repeat_their_holders() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let _scheduler = cloud.schedule(Settings { shard_ports: 4, ..settings() });
    let network = cloud.network().await?;
    let subnet = cloud.subnet(&network, 1).await?;
    cloud.ports(&network, 1, 4).await?;
    let before = cloud.full_map(&subnet).await?;
    assert_eq!(before.log2, 0);
    cloud.ports(&network, 2, 1).await?;
    let after = cloud.mapped(&subnet, |map| map.log2 == 1).await?;
    assert_eq!(after.shards, [before.shards[0], before.shards[0]]);
    let roles = cloud.roles(Scope::Subnet(subnet.number)).await?;
    let ranges: BTreeSet<(u16, u16, u32)> = roles.iter().map(|r| (r.key.lo, r.hi, r.key.host)).collect();
    let [a, b] = before.shards[0];
    assert_eq!(ranges, BTreeSet::from([(0, 2047, a), (0, 2047, b), (2048, 4095, a), (2048, 4095, b)]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_say_how_many_shards_and_dividers() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let _scheduler = cloud.schedule(Settings { shard_ports: 1, dividers: 3, ..settings() });
    let network = cloud.network().await?;
    let subnet = cloud.subnet(&network, 1).await?;
    cloud.ports(&network, 1, 3).await?;
    let map = cloud.mapped(&subnet, |map| map.log2 == 2).await?;
    assert_eq!(map.shards.len(), 4);
    let set = cloud
        .until("three dividers", async || Ok(cloud.divider_set(&network).await?.filter(|s| s.pairs.len() == 2)))
        .await?;
    let hosts: BTreeSet<u32> = set.pairs.iter().flatten().copied().collect();
    assert_eq!(hosts.len(), 3, "{set:?}");
    assert!(set.pairs.iter().all(|[a, b]| Cloud::rack(*a) != Cloud::rack(*b)), "{set:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_host_may_hold_roles_those_that_do_keep_them() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let _scheduler = cloud.schedule(settings());
    let network = cloud.network().await?;
    let subnet = cloud.subnet(&network, 1).await?;
    let before = cloud.full_map(&subnet).await?;
    cloud.execute("UPDATE hosts SET transit = 'no'").await?;
    // One host more that may: everything moves to it, which shows that the labels were read.
    cloud.label(before.shards[0][0], "yes").await?;
    let scope = Scope::Subnet(subnet.number);
    cloud.mapped(&subnet, |map| map.shards == [[before.shards[0][0], 0]]).await?;
    cloud.label(before.shards[0][0], "no").await?;
    // A new network cannot be served: once it was looked at, the labels were.
    let fence = cloud.number("SELECT fence FROM leader").await?;
    let other = cloud.network().await?;
    let second = cloud.subnet(&other, 1).await?;
    cloud.label(before.shards[0][1], "yes").await?;
    cloud.mapped(&second, |map| map.shards == [[before.shards[0][1], 0]]).await?;
    assert_eq!(cloud.number("SELECT fence FROM leader").await?, fence);
    assert!(!cloud.holders(scope, Phase::Active).await?.is_empty());
    Ok(())
}
