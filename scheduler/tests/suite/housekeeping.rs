//! Cluster keys, former paths, includes, tombstones.

use crate::cluster::{Cloud, settings, sql_id};
use anyhow::{Context as _, Result};
use diesel_async::SimpleAsyncConnection as _;
use mizar_domain::label_policy::Labels;
use mizar_domain::port_extras::PortExtras;
use mizar_scheduler::Settings;
use mizar_wire::body::ClusterKey;
use mizar_wire::{Body, Kind, Scope};
use std::collections::BTreeMap;
use std::time::Duration;

async fn key(cloud: &Cloud, id: u8) -> Result<Option<ClusterKey>> {
    Ok(match cloud.body(Scope::Cluster, Kind::ClusterKey, u32::from(id).to_be_bytes().to_vec()).await? {
        Some(Body::ClusterKey(key)) => Some(key),
        _ => None,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_key_signs_at_once_and_the_next_when_every_live_host_has_it() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let _scheduler = cloud.schedule(settings());
    let first = cloud.until("the first key", async || key(&cloud, 1).await).await?;
    assert!(first.signs);
    assert_eq!(first.key.len(), 32);

    cloud.set_deaf(2, true);
    cloud.execute("UPDATE cluster_keys SET created_at = created_at - interval '25 h'").await?;
    let second = cloud.until("the second key", async || key(&cloud, 2).await).await?;
    assert_ne!(second.key, first.key);
    // A second is four looks: none of them may let it sign while host 2 does not have it.
    cloud
        .until_number("SELECT count(*) FROM cluster_keys WHERE id = 2 AND created_at < now() - interval '1 s'", 1)
        .await?;
    assert!(!key(&cloud, 2).await?.context("the second")?.signs);
    assert!(key(&cloud, 1).await?.context("the first")?.signs);
    cloud.set_deaf(2, false);
    cloud.until("the second key to sign", async || Ok(key(&cloud, 2).await?.filter(|key| key.signs))).await?;
    let former = key(&cloud, 1).await?.context("the former key verifies on")?;
    assert!(!former.signs);

    cloud.execute("UPDATE cluster_keys SET created_at = created_at - interval '25 h'").await?;
    cloud.until("the third key to sign", async || Ok(key(&cloud, 3).await?.filter(|key| key.signs))).await?;
    assert_eq!(key(&cloud, 1).await?, None);
    assert_eq!(cloud.number("SELECT count(*) FROM cluster_keys").await?, 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_former_host_of_a_port_forgets_it_after_a_while() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let network = cloud.network().await?;
    cloud.subnet(&network, 1).await?;
    let port = cloud.ports(&network, 1, 1).await?.remove(0);
    cloud.rebind(port.row.id, 2).await?;
    let id = sql_id(port.row.id);
    let moved = cloud.body(Scope::Host(1), Kind::MovedPort, port.row.id.as_bytes().to_vec()).await?;
    assert!(moved.is_some());
    let _scheduler = cloud.schedule(Settings { moved: Duration::from_millis(100), ..settings() });
    cloud
        .until_number(
            &format!("SELECT count(*) FROM ports WHERE id = {id} AND moved_from IS NULL AND moved_at IS NULL"),
            1,
        )
        .await?;
    let moved = cloud.body(Scope::Host(1), Kind::MovedPort, port.row.id.as_bytes().to_vec()).await?;
    assert_eq!(moved, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_include_goes_once_nothing_has_needed_it_for_a_while() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let network = cloud.network().await?;
    let subnet = cloud.subnet(&network, 1).await?;
    let stays = cloud.ports(&network, 1, 1).await?.remove(0);
    let goes = cloud.ports(&network, 2, 1).await?.remove(0);
    let live = |host: u32| {
        let scopes =
            [Scope::Network(subnet.vni), Scope::Senders(subnet.number)].map(|s| s.to_i64().to_string()).join(", ");
        let host = Scope::Host(host).to_i64();
        format!("SELECT count(*) FROM includes WHERE NOT deleted AND scope = {host} AND target IN ({scopes})")
    };
    assert_eq!((cloud.number(&live(1)).await?, cloud.number(&live(2)).await?), (2, 2));
    cloud.rebind(goes.row.id, 1).await?;
    let _scheduler = cloud.schedule(Settings { unused: Duration::from_millis(100), ..settings() });
    cloud.until_number(&live(2), 0).await?;
    assert_eq!(cloud.number(&live(1)).await?, 2, "{} is still there", stays.row.id);
    // Needed again, it comes back.
    cloud.rebind(goes.row.id, 2).await?;
    assert_eq!(cloud.number(&live(2)).await?, 2);
    Ok(())
}

/// Rules of a security group are needed where a port with it is, a combination where a port has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_and_combinations_of_groups_go_with_their_last_port() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let network = cloud.network().await?;
    cloud.subnet(&network, 1).await?;
    let port = cloud.ports(&network, 1, 1).await?.remove(0);
    cloud.rebind(port.row.id, 2).await?;
    // A group that names itself, and a combination that no port has.
    let other = "INSERT INTO group_sets (groups) VALUES ('{77}')";
    cloud.execute(other).await?;
    let includes = |scope: u32, target: u32| {
        format!("SELECT count(*) FROM includes WHERE NOT deleted AND scope >> 32 = {scope} AND target >> 32 = {target}")
    };
    let (hosts, slots, peers) = (includes(2, 8), includes(5, 7), includes(7, 9));
    assert_eq!(
        (cloud.number(&hosts).await?, cloud.number(&slots).await?, cloud.number(&peers).await?),
        (2, 1, 1),
        "of both hosts, of the slot, of the rule about members"
    );
    let sets = "SELECT count(*) FROM group_sets";
    assert_eq!(cloud.number(sets).await?, 2);
    let soon = Duration::from_millis(100);
    let _scheduler = cloud.schedule(Settings { unused: soon, sets: soon, ..settings() });
    cloud.until_number(&hosts, 1).await?;
    cloud.until_number(sets, 1).await?;
    assert_eq!((cloud.number(&slots).await?, cloud.number(&peers).await?), (1, 1), "still needed");

    let told = "SELECT count(*) FROM entries WHERE NOT deleted AND kind = 13";
    assert_eq!(cloud.number(told).await?, 1);
    cloud.execute(&format!("DELETE FROM ports WHERE id = '{}'", port.row.id)).await?;
    cloud.until_number(&slots, 0).await?;
    cloud.until_number(&hosts, 0).await?;
    cloud.until_number(sets, 0).await?;
    cloud.until_number(told, 0).await?;
    assert_eq!(cloud.number(&peers).await?, 1, "the rule is there");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn label_policies_and_labels_go_with_their_last_port() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let network = cloud.network().await?;
    cloud.subnet(&network, 1).await?;
    let labels = Labels { namespace: "shop".into(), namespace_labels: BTreeMap::new(), labels: BTreeMap::new() };
    let extras = PortExtras { labels: Some(labels), ..PortExtras::default() };
    let ports = cloud.ports_with(&network, vec![1, 2], &extras).await?;
    let includes = |scope: u32, target: u32| {
        format!("SELECT count(*) FROM includes WHERE NOT deleted AND scope >> 32 = {scope} AND target >> 32 = {target}")
    };
    let (hosts, slots) = (includes(2, 12), includes(5, 11));
    let found = async || Ok::<_, anyhow::Error>((cloud.number(&hosts).await?, cloud.number(&slots).await?));
    assert_eq!(found().await?, (2, 2));
    let soon = Duration::from_millis(100);
    let _scheduler = cloud.schedule(Settings { unused: soon, sets: soon, ..settings() });
    cloud.execute(&format!("DELETE FROM ports WHERE id = '{}'", ports[0].row.id)).await?;
    cloud.until_number(&hosts, 1).await?;
    cloud.until_number(&slots, 1).await?;
    assert_eq!(cloud.number("SELECT count(*) FROM label_sets").await?, 1, "the other port has them");
    cloud.execute(&format!("DELETE FROM ports WHERE id = '{}'", ports[1].row.id)).await?;
    cloud.until_number(&hosts, 0).await?;
    cloud.until_number(&slots, 0).await?;
    cloud.until_number("SELECT count(*) FROM label_sets", 0).await?;
    cloud.until_number("SELECT count(*) FROM entries WHERE NOT deleted AND scope >> 32 = 13", 0).await?;
    Ok(())
}

/// Flows know their other side by the number, and may stand still for hours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_combination_is_forgotten_by_when_a_port_had_it_last() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let network = cloud.network().await?;
    cloud.subnet(&network, 1).await?;
    let port = cloud.ports(&network, 1, 1).await?.remove(0);
    cloud.execute("UPDATE group_sets SET created_at = now() - interval '1 day'").await?;
    let settings = Settings { unused: Duration::from_millis(100), sets: Duration::from_secs(3600), ..settings() };
    let _scheduler = cloud.schedule(settings);
    let unused = "SELECT count(*) FROM group_sets WHERE unused_since IS NOT NULL";
    cloud.execute(&format!("DELETE FROM ports WHERE id = '{}'", port.row.id)).await?;
    cloud.until_number(unused, 1).await?;

    // A port that gets it begins the time anew, before anybody looks.
    cloud.execute("UPDATE group_sets SET unused_since = now() - interval '59 minutes'").await?;
    let port = cloud.ports(&network, 1, 1).await?.remove(0);
    assert_eq!(cloud.number(unused).await?, 0);
    cloud.execute(&format!("DELETE FROM ports WHERE id = '{}'", port.row.id)).await?;
    cloud.until_number(unused, 1).await?;
    cloud.execute("UPDATE group_sets SET unused_since = now() - interval '61 minutes'").await?;
    cloud.until_number("SELECT count(*) FROM group_sets", 0).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tombstones_are_collected_and_the_horizon_tells_of_them() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let network = cloud.network().await?;
    cloud.subnet(&network, 1).await?;
    let port = cloud.ports(&network, 1, 1).await?.remove(0);
    cloud.rebind(port.row.id, 2).await?;
    let tombstones = "SELECT count(*) FROM entries WHERE deleted";
    assert!(cloud.number(tombstones).await? > 0);
    let horizon = "SELECT horizon FROM feed";
    let before = cloud.number(horizon).await?;
    let settings = Settings { tombstones: Duration::ZERO, collection: Duration::from_millis(50), ..settings() };
    let _scheduler = cloud.schedule(settings);
    cloud.until_number(tombstones, 0).await?;
    assert!(cloud.number(horizon).await? > before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_hand_in_the_database_changed_is_repaired() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let network = cloud.network().await?;
    let subnet = cloud.subnet(&network, 1).await?;
    let port = cloud.ports(&network, 1, 1).await?.remove(0);
    let live = "SELECT count(*) FROM entries WHERE NOT deleted AND kind NOT IN (2, 5, 9)";
    let before = cloud.number(live).await?;
    cloud.execute("DELETE FROM entries WHERE kind = 7").await?;
    cloud.execute("UPDATE entries SET body = '{}' WHERE kind = 8").await?;
    cloud.execute("DELETE FROM includes WHERE scope >> 32 = 2").await?;
    let _scheduler = cloud.schedule(Settings { audit: Duration::from_millis(50), audit_part: 1, ..settings() });
    let key = port.row.id.as_bytes().to_vec();
    cloud.until("the port's entry", async || cloud.body(Scope::Host(1), Kind::Port, key.clone()).await).await?;
    cloud.until_number("SELECT count(*) FROM entries WHERE kind = 8 AND body <> '{}'", 1).await?;
    cloud.until_number("SELECT count(*) FROM includes WHERE NOT deleted AND scope >> 32 = 2", 3).await?;
    // Maps are placement's: no audit may take them for left-overs.
    let map = cloud.full_map(&subnet).await?;
    cloud
        .execute("INSERT INTO entries (scope, kind, key, body) VALUES (2::bigint << 32 | 9, 7, '\\x00', '{}')")
        .await?;
    cloud.until_number(live, before).await?;
    assert_eq!(cloud.shard_map(&subnet).await?, Some(map));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_cannot_be_locked_keeps_no_other_from_being_repaired() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let mut networks = [cloud.network().await?, cloud.network().await?];
    // Locks are taken by VNI: the first one is the one that is waited for.
    networks.sort_by_key(|network| network.row.vni);
    let mut addresses = Vec::new();
    for network in &networks {
        let subnet = cloud.subnet(network, 1).await?;
        cloud.ports(network, 1, 3).await?;
        let scope = Scope::Subnet(subnet.number).to_i64();
        addresses.push(format!("SELECT count(*) FROM entries WHERE NOT deleted AND kind = 8 AND scope = {scope}"));
    }
    let [waits, free] = &networks;
    // A command under way that does not end.
    let mut command = cloud.connect().await?;
    command
        .batch_execute(&format!(
            "SET idle_in_transaction_session_timeout = 0; BEGIN; SELECT pg_advisory_xact_lock_shared(1836711937, {})",
            waits.row.vni
        ))
        .await?;
    cloud.execute("DELETE FROM entries WHERE kind = 8").await?;
    let settings = Settings { audit: Duration::from_millis(50), audit_part: 1, ..settings() };
    let _scheduler = cloud.schedule(settings);
    cloud.until_number(&addresses[1], 3).await?;
    assert_eq!(cloud.number(&addresses[0]).await?, 0);
    // Commands go on, while the repair waits and while it is made.
    cloud.ports(free, 2, 1).await?;
    assert_eq!(cloud.number(&addresses[1]).await?, 4);
    command.batch_execute("COMMIT").await?;
    cloud.until_number(&addresses[0], 3).await?;
    assert_eq!(mizar_db::audit::audit(&mut cloud.connect().await?).await?, []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audit_events_expire_when_the_operator_says_and_young_ones_never() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let insert = |count: u32, days: u32| {
        format!(
            "INSERT INTO audit_events (id, at, request_id, remote, user_id, user_name, roles, action, object_type, \
             object_id, changes) SELECT gen_random_uuid(), now() - interval '{days} days', '', '', '', 'ann', '{{}}', \
             'create', 'port', gen_random_uuid(), '{{}}' FROM generate_series(1, {count})"
        )
    };
    // More than one transaction takes away.
    for (count, days) in [(5_500, 41), (3, 39), (2, 25)] {
        cloud.execute(&insert(count, days)).await?;
    }
    let of = |days: u32| {
        format!("SELECT count(*) FROM audit_events WHERE user_name = 'ann' AND at < now() - interval '{days} days'")
    };
    for statement in ["DELETE FROM audit_events", "UPDATE audit_events SET remote = 'x'", "TRUNCATE audit_events"] {
        let refused = cloud.execute(statement).await;
        assert!(refused.is_err_and(|error| format!("{error:#}").contains("append-only")), "{statement}");
    }
    let refused = cloud.execute("SELECT expire_audit_events(interval '20 days', 100000)").await;
    assert!(refused.is_err_and(|error| format!("{error:#}").contains("append-only")), "of the last 30 days");
    // Nor does who is not the owner of the log, whatever he was granted and sets.
    let stranger = "BEGIN; CREATE ROLE mz_stranger; GRANT ALL ON audit_events TO mz_stranger; \
                    SET LOCAL ROLE mz_stranger; SET LOCAL mizar.audit_expires = 'on';";
    for (statement, reason) in [
        ("DELETE FROM audit_events WHERE at < now() - interval '40 days'", "append-only"),
        ("SELECT expire_audit_events(interval '40 days', 10)", "permission denied"),
    ] {
        // The transaction fails, and its role with it.
        let refused = cloud.connect().await?.batch_execute(&format!("{stranger} {statement}; COMMIT")).await;
        assert!(refused.is_err_and(|error| error.to_string().contains(reason)), "{statement}");
    }
    assert_eq!(cloud.number(&of(0)).await?, 5_505);

    let _scheduler = cloud.schedule(Settings { audit_days: Some(40), ..settings() });
    cloud.until_number(&of(40), 0).await?;
    assert_eq!(cloud.number(&of(0)).await?, 5);
    // It is said in the log, by whom and how many.
    let said = "SELECT sum((changes->>'count')::bigint)::bigint FROM audit_events \
                WHERE action = 'expire' AND user_name = 'mizar-scheduler'";
    cloud.until_number(said, 5_500).await?;
    Ok(())
}
