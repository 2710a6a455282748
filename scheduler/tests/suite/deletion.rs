//! What is deleted leaves nothing.

use crate::cluster::{Cloud, settings, sql_id};
use anyhow::{Context as _, Result};
use diesel::{QueryDsl as _, SelectableHelper as _};
use diesel_async::{AsyncConnection as _, RunQueryDsl as _};
use mizar_db::listing::Visibility;
use mizar_db::resources::network::{self, Hold};
use mizar_db::resources::{Failure, subnet};
use mizar_wire::Scope;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_subnet_and_network_leave_no_role_and_no_live_entry() -> Result<()> {
    let cloud = Cloud::of_four().await?;
    let _scheduler = cloud.schedule(settings());
    let network = cloud.network().await?;
    let vni = network.row.vni.cast_unsigned();
    let subnet = cloud.subnet(&network, 1).await?;
    cloud.full_map(&subnet).await?;
    cloud.until("dividers", async || Ok(cloud.divider_set(&network).await?.filter(|s| s.pairs.len() == 1))).await?;

    let mut conn = cloud.connect().await?;
    let delete = async |conn: &mut diesel_async::AsyncPgConnection| {
        let locked = subnet::lock(conn, subnet.id).await?;
        let Some(network) = locked else { return Err(Failure::Contended) };
        let row =
            mizar_db::schema::subnets::table.find(subnet.id).select(subnet::SubnetRow::as_select()).first(conn).await?;
        subnet::delete(conn, &network, &row).await
    };
    conn.transaction::<_, Failure, _>(delete).await?;
    let of_subnet =
        [Scope::Subnet(subnet.number), Scope::Senders(subnet.number)].map(|s| s.to_i64().to_string()).join(", ");
    cloud
        .until_number(&format!("SELECT count(*) FROM subscriptions WHERE NOT deleted AND scope IN ({of_subnet})"), 0)
        .await?;
    cloud
        .until_number(&format!("SELECT count(*) FROM entries WHERE NOT deleted AND scope IN ({of_subnet})"), 0)
        .await?;

    let delete = async |conn: &mut diesel_async::AsyncPgConnection| {
        let row = network::lock(conn, Visibility::All, &[network.row.id], Hold::Alone).await?.into_values().next();
        let Some(row) = row else { return Err(Failure::Contended) };
        let complete = network::complete(conn, None, vec![row]).await?;
        let Some(network) = complete.into_iter().next() else { return Err(Failure::Contended) };
        network::delete(conn, &network).await
    };
    conn.transaction::<_, Failure, _>(delete).await.context("network")?;
    assert_eq!(cloud.number(&format!("SELECT count(*) FROM networks WHERE id = {}", sql_id(network.row.id))).await?, 0);
    let of_network = [Scope::Network(vni), Scope::Dividers(vni)].map(|s| s.to_i64().to_string()).join(", ");
    cloud
        .until_number(&format!("SELECT count(*) FROM subscriptions WHERE NOT deleted AND scope IN ({of_network})"), 0)
        .await?;
    cloud
        .until_number(&format!("SELECT count(*) FROM entries WHERE NOT deleted AND scope IN ({of_network})"), 0)
        .await?;
    Ok(())
}
