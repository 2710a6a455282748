//! The watch misses no network and no subnet, whatever commits when.

use crate::cluster::Cloud;
use anyhow::Result;
use diesel::sql_query;
use diesel_async::{AnsiTransactionManager, RunQueryDsl as _, TransactionManager as _};
use mizar_db::placement::changes::Watch;
use mizar_db::pool::{Use, connect};
use std::collections::BTreeSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_networks_and_subnets_are_told_once_and_ports_never() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let mut conn = connect(cloud.db.url().to_owned(), Use::Feed).await?;
    let mut watch = Watch::begin(&mut conn).await?;
    assert!(watch.changes(&mut conn).await?.is_empty());
    let network = cloud.network().await?;
    let subnet = cloud.subnet(&network, 1).await?;
    let changes = watch.changes(&mut conn).await?;
    assert_eq!((changes.networks, changes.subnets), (BTreeSet::from([network.row.id]), BTreeSet::from([subnet.id])));
    cloud.ports(&network, 1, 2).await?;
    let changes = watch.changes(&mut conn).await?;
    assert!(changes.is_empty(), "{changes:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_being_written_at_the_last_look_is_told_after_its_commit() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let network = cloud.network().await?;
    let mut conn = connect(cloud.db.url().to_owned(), Use::Feed).await?;
    let mut writer = cloud.connect().await?;
    AnsiTransactionManager::begin_transaction(&mut writer).await?;
    sql_query("UPDATE entries SET changed_at = now() WHERE kind = 3").execute(&mut writer).await?;
    let mut watch = Watch::begin(&mut conn).await?;
    // Others commit meanwhile, so that the open transaction is not the youngest.
    let other = cloud.network().await?;
    assert_eq!(watch.changes(&mut conn).await?.networks, BTreeSet::from([other.row.id]));
    AnsiTransactionManager::commit_transaction(&mut writer).await?;
    assert_eq!(watch.changes(&mut conn).await?.networks, BTreeSet::from([network.row.id]));
    assert!(watch.changes(&mut conn).await?.is_empty());
    Ok(())
}
