//! The command line's nouns beside networks and ports: what each says, in a table and to a script, and how it ends.

use crate::bed::Bed;
use crate::command::Cli;
use crate::harness::Scenario;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    ("routers_get_gateways_interfaces_and_routes_and_say_what_keeps_them", routers),
    ("address_groups_get_longer_and_shorter_and_rules_name_them", address_groups),
    ("what_is_shared_by_name_is_seen_and_used_by_the_other_project", shared),
    ("rules_of_quality_are_made_below_their_policy", quality),
    ("a_trunk_takes_and_gives_back_ports_with_tags", trunks),
];

fn id(object: &Value) -> Result<&str> {
    object["id"].as_str().context("an id")
}

/// A table of a list, as people see it.
fn shown(cli: &Cli, line: &str, golden: &str) -> Result<()> {
    let said = cli.run(line)?;
    ensure!(said == golden, "mizar {line}:\n{said}instead of\n{golden}");
    Ok(())
}

fn routers(bed: &Bed) -> Result<()> {
    bed.tenant()?;
    let (admin, red) = (Cli::of(bed, "admin")?, Cli::of(bed, "tenant0")?);
    admin.run("network create outside --external")?;
    admin.run("subnet create outside-sub --network outside --cidr 203.0.113.0/24 --no-dhcp")?;
    red.run("network create web")?;
    red.run("subnet create web-a --network web --cidr 10.5.0.0/24")?;
    red.run("subnet create web-b --network web --cidr 10.6.0.0/24 --gateway 10.6.0.254")?;
    red.run("router create edge --gateway network=outside --tag t")?;
    shown(
        &red,
        "router list --tag t -c name -c admin_state_up -c external_gateway_info.enable_snat",
        "\
┌──────┬────────────────┬─────────────┐
│ name ┆ admin state up ┆ enable snat │
╞══════╪════════════════╪═════════════╡
│ edge ┆ true           ┆ true        │
└──────┴────────────────┴─────────────┘
",
    )?;
    let outside = admin.json("network show outside")?;
    let router = red.json("router show edge")?;
    ensure!(router["external_gateway_info"]["network_id"] == outside["id"], "{router}");
    red.fails("router set edge --gateway network=outside,snat=no", 4, "error:")?;
    red.fails("router set edge --gateway network=outside,snat=maybe", 2, "--gateway: `maybe` is not yes or no")?;
    let still = admin.json(&format!("router set {} --gateway network=outside,snat=no", id(&router)?))?;
    ensure!(still["external_gateway_info"]["enable_snat"] == false, "{still}");

    let first = red.json("router add-interface edge --subnet web-a")?;
    ensure!(first["subnet_id"] == red.json("subnet show web-a")?["id"], "{first}");
    let port = red.json("port create way --network web --fixed-ip subnet=web-b")?;
    let second = red.json("router add-interface edge --port way")?;
    ensure!(second["port_id"] == port["id"], "{second}");
    red.fails("router add-interface edge", 2, "--subnet")?;
    red.fails("router add-interface edge --subnet web-a --port way", 2, "cannot be used with")?;
    red.fails("router add-interface edge --subnet nothing", 3, "there is no subnet `nothing`")?;
    let interfaces =
        red.run(&format!("port list --device {} -o value -c fixed_ips.ip_address --sort id", id(&router)?))?;
    let mut interfaces: Vec<&str> = interfaces.lines().filter(|line| line.starts_with("10.")).collect();
    interfaces.sort_unstable();
    ensure!(interfaces.len() == 2 && interfaces[0] == "10.5.0.1", "{interfaces:?}");

    let routed = red.json("router set edge --route destination=192.0.2.0/24,nexthop=10.5.0.9")?;
    ensure!(routed["routes"] == json!([{"destination": "192.0.2.0/24", "nexthop": "10.5.0.9"}]), "{routed}");
    red.fails("router remove-interface edge --subnet web-a", 5, "routes")?;
    red.fails("router delete edge", 5, "hint: `mizar port list --device ROUTER-ID`")?;
    let routed = red.json("router unset edge --route destination=192.0.2.0/24 --gateway")?;
    ensure!(routed["routes"] == json!([]) && routed["external_gateway_info"].is_null(), "{routed}");
    red.run("router remove-interface edge --subnet web-a")?;
    red.run("router remove-interface edge --port way")?;
    red.fails("router remove-interface edge --subnet web-a", 3, "has no interface")?;
    Cli::of(bed, "admin")?.fails("router show nothing", 3, "hint: `mizar router list`")?;
    for line in ["router delete edge", "subnet delete web-a web-b", "network delete web"] {
        red.run(line)?;
    }
    admin.run("subnet delete outside-sub")?;
    admin.run("network delete outside").map(drop)
}

fn address_groups(bed: &Bed) -> Result<()> {
    bed.tenant()?;
    let red = Cli::of(bed, "tenant0")?;
    red.run("address-group create offices --address 198.51.100.7/32 --address 192.0.2.0/24 --description where")?;
    shown(
        &red,
        "address-group list -c name -c addresses",
        "\
┌─────────┬───────────────────────────────┐
│ name    ┆ addresses                     │
╞═════════╪═══════════════════════════════╡
│ offices ┆ 192.0.2.0/24, 198.51.100.7/32 │
└─────────┴───────────────────────────────┘
",
    )?;
    let longer = red.json("address-group set offices --address 203.0.113.0/24 --name branches")?;
    ensure!(
        longer["addresses"] == json!(["192.0.2.0/24", "198.51.100.7/32", "203.0.113.0/24"])
            && longer["name"] == "branches",
        "{longer}"
    );
    let shorter = red.json("address-group unset branches --address 192.0.2.0/24 --description")?;
    ensure!(
        shorter["addresses"] == json!(["198.51.100.7/32", "203.0.113.0/24"]) && shorter["description"] == "",
        "{shorter}"
    );
    red.fails("address-group unset branches --address 192.0.2.0/24", 3, "not found in the address group")?;
    red.fails("address-group set branches --address office", 2, "'office' is not a valid IP subnet")?;
    red.fails("address-group set branches", 2, "nothing to set")?;
    red.run("security-group create web")?;
    let rule = red.json("security-group-rule create web --protocol tcp --remote-address-group branches")?;
    ensure!(rule["remote_address_group_id"] == longer["id"], "{rule}");
    red.fails("address-group delete branches", 5, "hint: `mizar security-group-rule list --remote-address-group")?;
    let naming = red.run("security-group-rule list --remote-address-group branches -o value -c id")?;
    ensure!(naming.trim() == id(&rule)?, "{naming}");
    red.run("security-group delete web")?;
    red.run("address-group delete branches").map(drop)
}

fn shared(bed: &Bed) -> Result<()> {
    bed.tenant()?;
    bed.tenant()?;
    let (admin, red, blue) = (Cli::of(bed, "admin")?, Cli::of(bed, "tenant0")?, Cli::of(bed, "tenant1")?);
    let network = red.json("network create common")?;
    red.run("subnet create common-a --network common --cidr 10.5.0.0/24")?;
    let project = blue.json("network create own")?["project_id"].clone();
    let project = project.as_str().context("a project")?;
    blue.fails("port create p --network common", 3, "there is no network `common`")?;
    let policy = red.json(&format!("rbac-policy create --type network --object common --target {project}"))?;
    ensure!(
        policy["object_id"] == network["id"]
            && policy["target_tenant"] == project
            && policy["action"] == "access_as_shared",
        "{policy}"
    );
    let by_name = red.run("rbac-policy list --type network --object common -o value -c id")?;
    ensure!(by_name.trim() == id(&policy)?, "not found by its object: {by_name}");
    blue.run("port create p --network common")?;
    red.fails(&format!("rbac-policy delete {}", id(&policy)?), 5, "ports of policy")?;
    red.fails(&format!("rbac-policy set {} --target *", id(&policy)?), 4, "error:")?;
    red.fails("rbac-policy create --type port --object p --target *", 2, "--type")?;
    red.fails("rbac-policy create --type network --object nothing --target *", 3, "there is no network `nothing`")?;
    blue.run("port delete p")?;
    // Names of projects are the administrators' to look up.
    let target = admin.json(&format!("rbac-policy set {} --target tenant0", id(&policy)?))?;
    ensure!(target["target_tenant"] == network["project_id"], "{target}");
    let all = admin.json(&format!("rbac-policy set {} --target *", id(&policy)?))?;
    ensure!(all["target_tenant"] == "*", "{all}");
    red.run(&format!("rbac-policy delete {}", id(&policy)?))?;
    blue.fails("network show common", 3, "there is no network `common`")?;

    let scope = red.json("address-scope create inside")?;
    let pool = red.json("subnet-pool create pool --prefix 10.64.0.0/16 --address-scope inside")?;
    ensure!(scope["ip_version"] == 4 && pool["address_scope_id"] == scope["id"], "{scope} {pool}");
    red.fails("address-scope delete inside", 5, "error:")?;
    red.run("subnet-pool delete pool")?;
    red.run("address-scope delete inside")?;
    blue.run("network delete own")?;
    red.run("subnet delete common-a")?;
    red.run("network delete common").map(drop)
}

fn quality(bed: &Bed) -> Result<()> {
    bed.tenant()?;
    let (admin, red) = (Cli::of(bed, "admin")?, Cli::of(bed, "tenant0")?);
    let policy = admin.json("qos-policy create gold --share --tag t")?;
    red.fails("qos-policy create mine", 4, "hint: another cloud")?;
    let limit = admin.json("qos-bandwidth-limit-rule create gold --max-kbps 1000 --max-burst-kbps 200")?;
    shown(
        &red,
        "qos-bandwidth-limit-rule list gold -c direction -c max_kbps -c max_burst_kbps",
        "\
┌───────────┬──────────┬────────────────┐
│ direction ┆ max kbps ┆ max burst kbps │
╞═══════════╪══════════╪════════════════╡
│ egress    ┆ 1000     ┆ 200            │
└───────────┴──────────┴────────────────┘
",
    )?;
    let limit = id(&limit)?;
    let more = admin.json(&format!("qos-bandwidth-limit-rule set gold {limit} --max-kbps 3000 --direction ingress"))?;
    ensure!(more["max_kbps"] == 3000 && more["direction"] == "ingress", "{more}");
    for (noun, amount, set) in [
        ("qos-packet-rate-limit-rule", "max-kpps", "7"),
        ("qos-minimum-bandwidth-rule", "min-kbps", "8"),
        ("qos-minimum-packet-rate-rule", "min-kpps", "9"),
        ("qos-dscp-marking-rule", "dscp-mark", "46"),
    ] {
        let made = admin.json(&format!("{noun} create gold --{amount} 10"))?;
        let changed = admin.json(&format!("{noun} set gold {} --{amount} {set}", id(&made)?))?;
        let field = amount.replace('-', "_");
        ensure!(changed[&field].as_u64() == set.parse().ok(), "{noun}: {changed}");
        ensure!(red.json(&format!("{noun} show gold {}", id(&made)?))?[&field] == changed[&field], "{noun}");
        ensure!(red.run(&format!("{noun} list gold -o value -c {field}"))? == format!("{set}\n"), "{noun} list");
    }
    ensure!(red.json("qos-policy show gold")?["rules"].as_array().map(Vec::len) == Some(5), "not all rules");
    red.fails(
        "qos-dscp-marking-rule show gold 11111111-1111-1111-1111-111111111111",
        3,
        "hint: `mizar qos-dscp-marking-rule list POLICY`",
    )?;
    red.fails("qos-dscp-marking-rule list nothing", 3, "there is no qos-policy `nothing`")?;
    admin.fails("qos-dscp-marking-rule create gold --dscp-mark 1", 2, "dscp_mark")?;
    admin.fails("qos-bandwidth-limit-rule create gold", 2, "--max-kbps")?;
    admin.run(&format!("qos-bandwidth-limit-rule delete gold {limit}"))?;
    ensure!(red.run("qos-bandwidth-limit-rule list gold -o value")?.is_empty(), "it is still there");

    red.run("network create web --qos-policy gold")?;
    let bound = red.json("network show web")?;
    ensure!(bound["qos_policy_id"] == policy["id"], "{bound}");
    admin.fails("qos-policy delete gold", 5, "error:")?;
    ensure!(red.json("network unset web --qos-policy")?["qos_policy_id"].is_null(), "not taken away");
    red.run("network delete web")?;
    admin.run("qos-policy delete gold").map(drop)
}

fn trunks(bed: &Bed) -> Result<()> {
    bed.tenant()?;
    let red = Cli::of(bed, "tenant0")?;
    red.run("network create web")?;
    for port in ["vm", "blue", "green"] {
        red.run(&format!("port create {port} --network web"))?;
    }
    let part = |port: &str, tag: u16| format!("--subport port={port},segmentation-type=vlan,segmentation-id={tag}");
    let trunk = red.json(&format!("trunk create uplink --port vm {}", part("blue", 100)))?;
    let blue = red.json("port show blue")?;
    let of_blue = json!({"port_id": blue["id"], "segmentation_type": "vlan", "segmentation_id": 100});
    ensure!(trunk["sub_ports"] == json!([of_blue]), "{trunk}");
    shown(
        &red,
        "trunk list -c name -c sub_ports.segmentation_id",
        "\
┌────────┬─────────────────┐
│ name   ┆ segmentation id │
╞════════╪═════════════════╡
│ uplink ┆ 100             │
└────────┴─────────────────┘
",
    )?;
    let longer = red.json(&format!("trunk set uplink {}", part("green", 101)))?;
    ensure!(longer["sub_ports"].as_array().map(Vec::len) == Some(2), "{longer}");
    red.fails(&format!("trunk set uplink {}", part("green", 102)), 5, "in use by another trunk")?;
    let words = "trunk set uplink --subport port=green,segmentation-type=vlan,segmentation-id=high";
    red.fails(words, 2, "--subport: `high` is not a whole number")?;
    let shorter = red.json("trunk unset uplink --subport port=green --description")?;
    ensure!(shorter["sub_ports"] == json!([of_blue]), "{shorter}");
    red.fails("port delete blue", 5, "hint: `mizar trunk list --long`")?;
    red.run("trunk delete uplink")?;
    red.run("port delete vm blue green")?;
    red.run("network delete web").map(drop)
}
