//! The real `mizar` command against a sandbox: tenants' and operators' verbs, and wrong uses.

use anyhow::{Context, Result, ensure};
use mizar_tests::bed::Bed;
use mizar_tests::command::{Cli, Said};
use mizar_tests::harness::Scenario;
use mizar_tests::scenarios::{broken, nouns};
use mizar_tests::tenant::at;
use mizar_tests::{bed, harness};
use serde_json::{Value, json};
use std::process::{Command, ExitCode};

const SCENARIOS: &[Scenario] = &[
    ("a_tenant_makes_lists_changes_and_deletes", tenant),
    ("lists_are_sorted_filtered_and_whole_however_many_pages", lists),
    ("rules_routers_and_tags_are_made_by_the_same_verbs", others),
    ("what_may_pass_is_told_by_rules_and_by_ports", passing),
    ("wait_ends_with_active_or_says_why_not", waits),
    ("wrong_uses_end_with_the_code_of_their_kind_and_a_hint", wrong_uses),
    ("nobody_sees_or_names_what_is_another_projects", isolated),
    ("an_operator_sees_hosts_roles_and_differences", operator),
    ("quotas_are_shown_set_kept_and_reset", quotas),
    ("doctor_finds_a_well_deployment_well_and_a_lost_scheduler", doctor),
    ("doctor_on_a_host_reaches_the_api_by_its_certificates", doctor_on_host),
    ("a_support_bundle_has_what_is_needed_and_no_secret", bundle),
    ("an_application_credential_signs_in", application_credential),
];

fn tenant(bed: &Bed) -> Result<()> {
    bed.tenant()?;
    let red = Cli::of(bed, "tenant0")?;
    let network = red.json("network create web --description servers --tag blue")?;
    ensure!(network["name"] == "web" && network["tags"] == json!(["blue"]), "{network}");
    let subnet = red.json("subnet create web-a --network web --cidr 10.5.0.0/24 --dns-nameserver 192.0.2.53 --allocation-pool start=10.5.0.10,end=10.5.0.99")?;
    ensure!(subnet["network_id"] == network["id"] && subnet["allocation_pools"][0]["start"] == "10.5.0.10", "{subnet}");
    let port = red.json("port create web-1 --network web --fixed-ip subnet=web-a,ip-address=10.5.0.77")?;
    ensure!(port["fixed_ips"][0]["ip_address"] == "10.5.0.77" && port["status"] == "DOWN", "{port}");
    ensure!(
        red.run("port list -o value -c name -c fixed_ips.ip_address")? == "web-1\t10.5.0.77\n",
        "{}",
        red.run("port list")?
    );
    ensure!(
        red.run("port list --fixed-ip subnet=web-a -o value -c id")?.trim() == port["id"],
        "not found by its subnet"
    );
    let table = red.run("network list")?;
    ensure!(table.contains("┆ web ") && table.contains("┆ ACTIVE"), "{table}");
    let yaml = red.run("network show web -o yaml -c name -c tags")?;
    ensure!(yaml.contains("name: web") && yaml.contains("- blue"), "{yaml}");
    let longer = red.json("subnet set web-a --dns-nameserver 192.0.2.54 --no-dhcp --name front")?;
    ensure!(
        longer["dns_nameservers"] == json!(["192.0.2.53", "192.0.2.54"]) && longer["enable_dhcp"] == false,
        "{longer}"
    );
    let shorter = red.json("subnet unset front --dns-nameserver 192.0.2.53 --gateway")?;
    ensure!(shorter["dns_nameservers"] == json!(["192.0.2.54"]) && shorter["gateway_ip"].is_null(), "{shorter}");
    let tagged = red.json("network set web --tag green")?;
    ensure!(tagged["tags"] == json!(["blue", "green"]), "{tagged}");
    let untagged = red.json("network unset web --tag blue --description")?;
    ensure!(untagged["tags"] == json!(["green"]) && untagged["description"] == "", "{untagged}");
    red.fails("network delete web", 5, "hint: `mizar port list --network")?;
    red.run(&format!("port delete {}", port["id"].as_str().context("an id")?))?;
    red.run("subnet delete front")?;
    red.run("network delete web")?;
    ensure!(red.json("network list")? == json!([]), "something is left");
    Ok(())
}

fn lists(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.5.0.0/20"])?;
    let ports: Vec<Value> =
        (0..1003).map(|n| json!({"network_id": net.network.id, "name": format!("p{n:04}")})).collect();
    // More than two pages, and more than the quota of a project that nobody raised.
    Cli::of(bed, "admin")?.run("quota set tenant0 port=2000")?;
    for part in ports.chunks(200) {
        tenant.api.post("/v2.0/ports", &json!({"ports": part}))?;
    }
    let red = Cli::of(bed, "tenant0")?;
    let names = red.run("port list --sort name:desc -o value -c name")?;
    let names: Vec<&str> = names.lines().collect();
    ensure!(names.len() == 1003 && names[0] == "p1002" && names[1002] == "p0000", "{} ports", names.len());
    ensure!(names.is_sorted_by(|a, b| a > b), "not in order over the pages");
    let first = red.run("port list --sort name --limit 700 -o value -c name")?;
    ensure!(first.lines().count() == 700 && first.lines().last() == Some("p0699"), "the limit spans pages");
    ensure!(red.run("port list --filter name=p0007 --network net -o value -c name")? == "p0007\n", "not filtered");
    ensure!(
        red.run("port list --name p0001 --name p0002 --sort name -o value -c name")? == "p0001\np0002\n",
        "two names"
    );
    let reached = red.json("port who-can-reach p0000")?;
    ensure!(
        reached["ports"].as_array().map(Vec::len) == Some(1002),
        "not all that have the group: {}",
        reached["looked_at"]
    );
    red.fails("port list --filter colour=red", 2, "colour")?;
    red.fails("port list --sort colour", 2, "colour")
}

/// Rules as both ends of them see it.
fn passing(bed: &Bed) -> Result<()> {
    bed.tenant()?.network(&["10.5.0.0/24"])?;
    bed.tenant()?;
    let red = Cli::of(bed, "tenant0")?;
    for name in ["web", "lb"] {
        red.run(&format!("security-group create {name}"))?;
        red.run(&format!("port create {name}-1 --network net --security-group {name}"))?;
    }
    red.run("security-group-rule create web --protocol tcp --port-min 443 --port-max 443 --remote-group lb")?;
    let rules = red.run("port rules web-1")?;
    ensure!(rules.contains("tcp 443") && rules.contains("group lb"), "{rules}");
    let reached = red.run("port who-can-reach web-1 -o value")?;
    ensure!(reached.contains("lb-1"), "{reached}");
    let lines = red.json("port who-can-reach web-1 --port 443")?["ports"][0]["traffic"].take();
    ensure!(lines == json!([{"protocol": 6, "port_range_min": 443, "port_range_max": 443}]), "{lines}");
    let reached = red.run("port who-can-reach web-1 --proto udp")?;
    ensure!(reached.starts_with("no port of the project can reach it"), "{reached}");
    let reached = red.run("port can-reach lb-1 --proto tcp --port 443")?;
    ensure!(reached.contains("web-1"), "{reached}");
    red.fails("port who-can-reach web-1 --proto icmp --port 1", 2, "destination_port")?;
    Cli::of(bed, "tenant1")?.fails("port rules web-1", 3, "web-1")
}

/// A manifest as it is written for Kubernetes, applied, changed, refused, deleted.
fn apply_policy(red: &Cli, file: &std::path::Path) -> Result<()> {
    let manifest = |port: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: web\n  namespace: shop\nspec:\n  \
             podSelector:\n    matchLabels:\n      app: web\n  ingress:\n  - ports:\n    - port: {port}\n"
        )
    };
    let apply = format!("policy apply -f {}", file.display());
    for (port, said) in [("80", "created"), ("80", "unchanged"), ("443", "configured")] {
        std::fs::write(file, manifest(port))?;
        let out = red.run(&apply)?;
        ensure!(out == format!("networkpolicy shop/web {said}\n"), "{out}");
    }
    std::fs::write(file, manifest("http"))?;
    red.fails(&apply, 2, "spec.ingress[0].ports[0].port")?;
    let listed = red.json("policy list --namespace shop")?;
    ensure!(listed[0]["name"] == "web", "{listed}");
    let shown = red.json("policy show web --namespace shop")?;
    ensure!(shown["spec"]["ingress"][0]["ports"][0]["port"] == 443, "{shown}");
    red.run("policy delete web --namespace shop")?;
    red.fails("policy show web --namespace shop", 3, "shop/web")
}

fn others(bed: &Bed) -> Result<()> {
    bed.tenant()?;
    let red = Cli::of(bed, "tenant0")?;
    red.run("security-group create web")?;
    let rule = red
        .json("security-group-rule create web --protocol tcp --port-min 443 --port-max 443 --remote-ip 192.0.2.0/24")?;
    ensure!(rule["direction"] == "ingress" && rule["port_range_min"] == 443, "{rule}");
    ensure!(
        red.json("security-group-rule list --group web --direction ingress")?.as_array().is_some_and(|l| l.len() == 1),
        "not listed"
    );
    red.fails(
        "security-group-rule create web --protocol tcp --port-min 443 --port-max 443 --remote-ip 192.0.2.0/24",
        5,
        "exists",
    )?;
    red.run(&format!("security-group-rule delete {}", rule["id"].as_str().context("an id")?))?;
    let file = std::env::temp_dir().join(format!("mizar-policy-{}.yaml", std::process::id()));
    let applied = apply_policy(&red, &file);
    std::fs::remove_file(&file)?;
    applied?;
    red.run("router create edge --tag t")?;
    ensure!(red.run("router list --tag t -o value -c name")? == "edge\n", "not found by its tag");
    red.run("router delete edge")?;
    red.run("subnet-pool create pool --prefix 10.64.0.0/16 --default-prefix-length 24")?;
    red.run("network create n")?;
    let subnet = red.json("subnet create s --network n --subnet-pool pool")?;
    ensure!(
        subnet["cidr"].as_str().is_some_and(|cidr| cidr.starts_with("10.64.") && cidr.ends_with("/24")),
        "{subnet}"
    );
    for line in ["network delete n", "subnet-pool delete pool", "security-group delete web"] {
        red.run(line)?;
    }
    Ok(())
}

fn waits(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.5.0.0/24"])?;
    let endpoint = tenant.endpoint(&net, at(0, 0))?;
    let red = Cli::of(bed, "tenant0")?;
    let there = red.json(&format!("port show {} --wait", endpoint.port))?;
    ensure!(there["status"] == "ACTIVE", "{there}");
    red.run("port create nowhere --network net")?;
    red.fails("port show nowhere --wait --wait-timeout 1", 9, "still DOWN after 1 s")?;
    let admin = Cli::of(bed, "admin")?;
    let id = red.run("port show nowhere -o value -c id")?;
    let bound = admin.json(&format!("port set {} --host {}", id.trim(), bed.host(1)))?;
    ensure!(bound["binding:host_id"] == bed.host(1), "{bound}");
    let difference = admin.json(&format!("host state {}", bed.host(1)))?;
    ensure!(difference["desired"]["ports"] == 1 && difference["applied"]["ports"] == 0, "{difference}");
    ensure!(difference["difference"][0]["id"] == id.trim(), "{difference}");
    let lost = format!("port set {} --host no-such-host --wait", id.trim());
    admin.fails(&lost, 10, "is in ERROR: the host that it was bound to is not known")
}

fn wrong_uses(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    tenant.network(&["10.5.0.0/24"])?;
    let mut red = Cli::of(bed, "tenant0")?;
    red.run("network create twice")?;
    red.run("network create twice")?;
    red.fails("network show twice", 2, "give an id")?;
    red.fails("network create", 2, "<NAME>")?;
    red.fails("network set net", 2, "nothing to set")?;
    red.fails("network show nothing", 3, "hint: `mizar network list`")?;
    red.fails("port show 11111111-1111-1111-1111-111111111111", 3, "there is no port")?;
    red.fails("subnet create overlap --network net --cidr 10.5.0.128/25", 2, "10.5.0.128/25")?;
    red.fails("subnet create s --network nothing --cidr 10.6.0.0/24", 3, "there is no network `nothing`")?;
    red.fails(
        "subnet create s --network net --cidr 10.6.0.0/24 --allocation-pool from=1",
        2,
        "--allocation-pool: `from=1`",
    )?;
    red.fails("network list -c colour", 2, "`colour`")?;
    red.fails("host list", 4, "hint: another cloud")?;
    red.fails("quota set tenant0 network=1", 4, "")?;
    red.fails("network list --os-cloud nowhere", 2, "cloud nowhere")?;
    Cli::of(bed, "admin")?.run("quota set tenant0 network=3")?;
    red.fails("network create more", 6, "hint: `mizar quota show --usage`")?;
    red.environment.push(("OS_PASSWORD", "wrong".into()));
    red.fails("network list", 7, "hint: look at user, password")?;
    red.environment.push(("OS_AUTH_URL", "http://127.0.0.1:1/v3".into()));
    red.fails("network list", 8, "hint: `mizar doctor --cloud`")?;
    red.environment.push(("OS_AUTH_URL", "nowhere".into()));
    red.fails("network list", 2, "OS_AUTH_URL: `nowhere`")
}

fn isolated(bed: &Bed) -> Result<()> {
    let first = bed.tenant()?;
    bed.tenant()?;
    let id = first.network(&["10.5.0.0/24"])?.network.id;
    let other = Cli::of(bed, "tenant1")?;
    ensure!(other.json("network list")? == json!([]), "another project lists it");
    for line in [format!("network show {id}"), format!("network set {id} --name mine"), format!("network delete {id}")]
    {
        other.fails(&line, 3, "there is no network")?;
    }
    other.fails(&format!("port create p --network {id}"), 3, "there is no network")
}

fn operator(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    let net = tenant.network(&["10.5.0.0/24"])?;
    tenant.endpoint(&net, at(0, 0))?;
    let admin = Cli::of(bed, "admin")?;
    let hosts = admin.json("host list")?;
    ensure!(hosts.as_array().is_some_and(|l| l.len() == bed.sandbox.hosts().len()), "{hosts}");
    let name = bed.host(0);
    let labelled = admin.json(&format!("host set {name} --transit no --weight 7"))?;
    ensure!(labelled["transit"] == "no" && labelled["weight"] == 7, "{labelled}");
    ensure!(admin.run("host list --transit no -o value -c name")? == format!("{name}\n"), "not filtered");
    admin.run(&format!("host set {name} --transit yes --weight 100"))?;
    let socket = bed.sandbox.layout().agent_socket(name);
    let line = format!("host state {name} --socket {}", socket.display());
    bed.wait("the host has its roles and its port", || {
        let state = admin.json(&line)?;
        Ok(state["desired"] == state["applied"] && state["difference"] == json!([]) && state["agent"]["wired"] == 1)
    })?;
    maps(bed, &admin, name)?;
    let roles = admin.json(&format!("role list --network {} --role bouncer --state active", net.network.id))?;
    ensure!(roles.as_array().is_some_and(|l| !l.is_empty()), "{roles}");
    let sorted = admin.run("role list --sort host:desc -o value -c host")?;
    ensure!(sorted.lines().is_sorted_by(|a, b| a >= b), "{sorted}");
    let wrong = format!("host state {} --socket {}", bed.host(1), socket.display());
    admin.fails(&wrong, 2, "--socket: the agent there is host")?;
    ensure!(admin.run("audit list --limit 3 --long")?.contains("object type"), "no audit log");
    Ok(())
}

/// The host itself says how full its maps are: as full as its agent says here.
fn maps(bed: &Bed, admin: &Cli, name: &str) -> Result<()> {
    let line = format!("host state {name} --socket {}", bed.sandbox.layout().agent_socket(name).display());
    bed.wait("the maps are as full as the agent says on the host", || {
        let state = admin.json(&line)?;
        let maps = state["maps"].as_array().cloned().unwrap_or_default();
        let of = |map: &str| maps.iter().find(|one| one["map"] == map).cloned().unwrap_or_default();
        let same = ["EP", "ADDR", "HOSTS"].iter().all(|map| of(map)["entries"] == state["agent"]["maps"][*map]);
        ensure!(state["maps_error"].is_null() || maps.is_empty(), "{state}");
        ensure!(maps.iter().all(|one| one["most"].as_u64() >= Some(1) && one["map"] != "CFG"), "{state}");
        Ok(same && of("EP")["entries"] == 1 && of("ADDR")["most"] == 65_536)
    })?;
    let table = admin.run(&format!("host state {name}"))?;
    ensure!(table.contains("┆ 65536") && table.contains("│ ADDR "), "{table}");
    let alive = admin.run("host list --alive --sort seen_at -o value -c name")?;
    ensure!(alive.lines().count() == bed.sandbox.hosts().len(), "{alive}");
    ensure!(
        admin.json("host list --silent")? == json!([]) && admin.json("host list --failing")? == json!([]),
        "not narrowed"
    );
    Ok(())
}

fn quotas(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    tenant.network(&["10.5.0.0/24"])?;
    let (admin, red) = (Cli::of(bed, "admin")?, Cli::of(bed, "tenant0")?);
    ensure!(admin.json("quota set tenant0 network=2 security-group=-1")?["network"] == 2, "not set");
    ensure!(red.json("quota show")?["security_group"] == -1, "not seen by the project");
    let usage = red.json("quota show --usage")?;
    let network = usage.as_array().and_then(|l| l.iter().find(|row| row["resource"] == "network"));
    ensure!(network == Some(&json!({"resource": "network", "used": 1, "limit": 2})), "{usage}");
    admin.fails("quota set tenant0 network=0", 2, "")?;
    admin.run("quota set tenant0 network=0 --force")?;
    ensure!(
        admin.json("quota list -c network")?.as_array().is_some_and(|l| l.contains(&json!({"network": 0}))),
        "not listed"
    );
    admin.run("quota reset tenant0")?;
    ensure!(red.json("quota show")? == red.json("quota show --default")?, "not reset");
    admin.fails("quota show nobody", 3, "there is no project `nobody`")
}

/// Verdicts by check.
fn verdicts(said: &Said) -> Result<Vec<(String, String)>> {
    let checks: Vec<Value> = serde_json::from_str(&said.out).with_context(|| said.error.clone())?;
    let text = |check: &Value, name: &str| check[name].as_str().unwrap_or_default().to_owned();
    Ok(checks.iter().map(|check| (text(check, "check"), text(check, "verdict"))).collect())
}

fn doctor(bed: &Bed) -> Result<()> {
    use mizar::sandbox::services::Service;
    let admin = Cli::of(bed, "admin")?;
    bed.wait("everything is well", || Ok(admin.raw("doctor --cloud")?.code == 0))?;
    let said = admin.run("doctor --cloud")?;
    ensure!(said.contains("0 failed") && said.contains("a scheduler leads"), "{said}");
    bed.sandbox.kill(&Service::Scheduler)?;
    bed.wait("the lost scheduler is found", || {
        let said = admin.raw("doctor --cloud -o json")?;
        Ok(said.code == 1 && verdicts(&said)?.contains(&("placement".into(), "fail".into())))
    })?;
    bed.sandbox.start(&Service::Scheduler)?;
    bed.wait("it is well again", || Ok(admin.raw("doctor --cloud")?.code == 0))?;
    bed.tenant()?;
    let red = Cli::of(bed, "tenant0")?.raw("doctor --cloud -o json")?;
    ensure!(red.code == 0 && verdicts(&red)?.contains(&("hosts".into(), "warn".into())), "{}", red.out);
    Ok(())
}

fn doctor_on_host(bed: &Bed) -> Result<()> {
    let (layout, name) = (bed.sandbox.layout(), bed.host(0));
    let pair = mizar::sandbox::pki::host(layout, name);
    let look = |host: &str| -> Result<Said> {
        let mut command = bed.sandbox.host_netns(name).command(bed.sandbox.binaries().path("mizar")?)?;
        command.args(["doctor", "-o", "json", "--uplink", mizar::sandbox::topology::UPLINK, "--host", host, "--api"]);
        command.arg(format!("https://{}:{}", mizar::sandbox::layout::UNDERLAY_API, mizar::sandbox::layout::AGENT_PORT));
        command
            .arg("--ca")
            .arg(mizar::sandbox::pki::ca(layout))
            .arg("--cert")
            .arg(&pair.cert)
            .arg("--key")
            .arg(&pair.key);
        command.arg("--socket").arg(layout.agent_socket(name));
        Said::of(command.output()?)
    };
    let well = look(name)?;
    let seen = verdicts(&well)?;
    ensure!(well.code == 0, "{}", well.out);
    for check in
        ["kernel", "LRU maps", "uplink", "certificate", "authority", "key", "way to the API", "agent", "desired state"]
    {
        ensure!(seen.contains(&(check.into(), "ok".into())), "{check}: {}", well.out);
    }
    let other = look("another")?;
    ensure!(other.code == 1 && verdicts(&other)?.contains(&("certificate".into(), "fail".into())), "{}", other.out);
    Ok(())
}

fn bundle(bed: &Bed) -> Result<()> {
    let admin = Cli::of(bed, "admin")?;
    let (layout, name) = (bed.sandbox.layout(), bed.host(0));
    let archive = layout.dir().join("bundle.tar.gz");
    let log = layout.log("api");
    let line = format!(
        "support-bundle --to {} --socket {} --log {}",
        archive.display(),
        layout.agent_socket(name).display(),
        log.display()
    );
    let said = admin.run(&line)?;
    ensure!(said.contains("secrets redacted") && !said.contains("without"), "{said}");
    let listed = Command::new("tar").arg("-xzOf").arg(&archive).output()?;
    let text = String::from_utf8(listed.stdout)?;
    ensure!(text.contains("\"alive\": true") && text.contains("\"maps\""), "hosts and agent are missing");
    let password = &admin.environment.iter().find(|(name, _)| *name == "OS_PASSWORD").context("a password")?.1;
    ensure!(!text.contains(password.as_str()) && !text.contains("PRIVATE KEY"), "a secret is in it");
    let again = admin.raw(&line)?;
    ensure!(again.code == 1 && again.error.contains("cannot write"), "it was replaced");
    std::fs::remove_file(&archive)?;
    Ok(())
}

fn application_credential(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    tenant.network(&["10.5.0.0/24"])?;
    let users = bed.admin.get("/v3/users?name=tenant0")?;
    let user = users["users"][0]["id"].as_str().context("a user")?;
    let body = json!({"application_credential": {"name": "robot"}});
    let made =
        tenant.api.post(&format!("/v3/users/{user}/application_credentials"), &body)?["application_credential"].clone();
    let text = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
    let clouds = bed.sandbox.layout().dir().join("clouds-of-robot.yaml");
    let settings = json!({"clouds": {"robot": {"auth_type": "v3applicationcredential", "auth": {
        "auth_url": bed.sandbox.api_url(), "application_credential_id": text("id"),
        "application_credential_secret": text("secret")}}}});
    std::fs::write(&clouds, settings.to_string())?;
    let environment = vec![("OS_CLIENT_CONFIG_FILE", clouds.display().to_string())];
    let robot = Cli { program: bed.sandbox.binaries().path("mizar")?, environment };
    ensure!(robot.run("network list -o value -c name")? == "net\n", "its project is tenant0");
    robot.fails("network list --os-project-name other", 2, "an application credential is for one project")?;
    std::fs::remove_file(&clouds)?;
    Ok(())
}

fn main() -> ExitCode {
    harness::run("tcli", bed::settings(), &[SCENARIOS, nouns::SCENARIOS, broken::SCENARIOS])
}
