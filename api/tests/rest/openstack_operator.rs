//! The real `openstack` command, as operators use it, and what tenants ask of their cloud.

use crate::openstack_client::{OpenStack, names};
use crate::support::Cloud;
use anyhow::Context as _;
use serde_json::{Value, json};

/// The value of a row that has this in another column.
fn row<'v>(list: &'v Value, column: &str, value: &str) -> anyhow::Result<&'v Value> {
    let mut rows = list.as_array().into_iter().flatten();
    rows.find(|row| row[column] == value).with_context(|| format!("no {column} {value} in {list}"))
}

#[tokio::test]
async fn the_openstack_command_sets_shows_lists_and_resets_quotas() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (os, admin) = (OpenStack::of(&red)?, OpenStack::admin(&cloud)?);
    red.network("10.0.0.0/24").await?;
    admin.run("quota set --networks 7 --ports -1 red").await?;
    let shown = os.json("quota show --network").await?;
    assert_eq!(row(&shown, "Resource", "networks")?["Limit"], 7);
    assert_eq!(row(&shown, "Resource", "ports")?["Limit"], -1);
    assert_eq!(row(&os.json("quota show --network --default").await?, "Resource", "networks")?["Limit"], 100);
    let usage = admin.json("quota show --network --usage red").await?;
    let networks = row(&usage, "Resource", "networks")?;
    assert_eq!((&networks["Limit"], &networks["In Use"], &networks["Reserved"]), (&json!(7), &json!(1), &json!(0)));
    let list = admin.json("quota list --network").await?;
    assert_eq!(row(&list, "Project ID", &red.project)?["Networks"], 7);
    assert_eq!(list.as_array().map(Vec::len), Some(1));
    assert!(admin.refused("quota set --networks 0 red").await?.contains("already used 1"));
    admin.run("quota set --networks 0 --force red").await?;
    assert!(os.refused("network create more").await?.contains("Quota exceeded for resources: ['network']"));
    let refused = os.refused("quota set --networks 9").await?;
    assert!(refused.contains("disallowed by policy"), "{refused}");
    admin.run("quota delete --network red").await?;
    assert_eq!(row(&os.json("quota show --network").await?, "Resource", "networks")?["Limit"], 100);
    Ok(())
}

#[tokio::test]
async fn the_openstack_command_shows_agents_zones_addresses_and_extensions() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let (os, admin) = (OpenStack::of(&red)?, OpenStack::admin(&cloud)?);
    cloud.host("h1", 1500, 1).await?;
    // Each run of the command takes its time: the lease shall not end meanwhile.
    cloud.sql("UPDATE host_state SET seen_at = now() + interval '1 h'").await?;
    let agents = admin.json("network agent list --host h1").await?;
    let agent = row(&agents, "Host", "h1")?;
    assert_eq!((&agent["Agent Type"], &agent["Alive"]), (&json!("Mizar agent"), &json!(true)));
    let id = agent["ID"].as_str().context("no id")?;
    admin.run(&format!("network agent set --description upstairs {id}")).await?;
    let shown = admin.json(&format!("network agent show {id}")).await?;
    assert_eq!((&shown["description"], &shown["binary"]), (&json!("upstairs"), &json!("mizar-agent")));
    assert!(admin.refused(&format!("network agent set --disable {id}")).await?.contains("admin_state_up"));
    let refused = admin.refused(&format!("network agent delete {id}")).await?;
    assert!(refused.contains("is alive"), "{refused}");

    let zones = os.json("availability zone list --network --long").await?;
    assert_eq!(row(&zones, "Zone Name", "az1")?["Zone Resource"], "network");

    red.network("10.0.0.0/24").await?;
    let list = os.json("ip availability list").await?;
    assert_eq!(row(&list, "Network Name", "n")?["Total IPs"], 253);
    let shown = os.json("ip availability show n").await?;
    assert_eq!((&shown["used_ips"], &shown["subnet_ip_availability"][0]["total_ips"]), (&json!(0), &json!(253)));

    assert_eq!(os.json("network service provider list").await?, json!([]));
    let extensions = os.json("extension list --network").await?;
    for alias in ["agent", "availability_zone", "network-ip-availability", "quotas", "quota_details", "service-type"] {
        row(&extensions, "Alias", alias)?;
    }
    assert_eq!(os.json("extension show quota-check-limit").await?["name"], "Quota engine limit check");
    Ok(())
}

#[tokio::test]
async fn the_openstack_command_shares_networks_and_keeps_address_scopes() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let green = cloud.tenant("green", "member").await?;
    let (os, admin) = (OpenStack::of(&red)?, OpenStack::admin(&cloud)?);
    red.network("10.0.0.0/24").await?;
    let seen = async |client: &crate::support::Client| -> anyhow::Result<usize> {
        let list = client.get("/v2.0/networks").await?.ok(200)?;
        Ok(list["networks"].as_array().map_or(0, Vec::len))
    };
    let create =
        format!("network rbac create --type network --action access_as_shared --target-project {} n", blue.project);
    let policy = os.json(&create).await?;
    let id = policy["id"].as_str().context("no id")?.to_owned();
    assert_eq!((&policy["object_type"], &policy["target_project_id"]), (&json!("network"), &json!(blue.project)));
    assert_eq!((seen(&blue).await?, seen(&green).await?), (1, 0));
    assert_eq!(os.json("network rbac list --type network").await?[0]["ID"], json!(id));
    admin.run(&format!("network rbac set --target-project green {id}")).await?;
    assert_eq!(os.json(&format!("network rbac show {id}")).await?["target_project_id"], json!(green.project));
    assert_eq!((seen(&blue).await?, seen(&green).await?), (0, 1));
    os.run(&format!("network rbac delete {id}")).await?;
    assert_eq!(os.json("network rbac list").await?, json!([]));
    assert_eq!(seen(&green).await?, 0);

    let scope = os.json("address scope create --ip-version 4 near").await?;
    assert_eq!((&scope["name"], &scope["ip_version"]), (&json!("near"), &json!(4)));
    os.run("address scope set --name far near").await?;
    assert_eq!(names(&os.json("address scope list --ip-version 4").await?), ["far"]);
    admin.run("address scope set --share far").await?;
    assert_eq!(os.json("address scope show far").await?["shared"], true);
    os.run("address scope delete far").await?;
    assert!(os.refused("address scope show far").await?.contains("far"));
    Ok(())
}
