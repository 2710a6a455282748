//! The real, unmodified `openstack` command against the sandbox's API.

use anyhow::{Context, Result, ensure};
use mizar_tests::bed::Bed;
use mizar_tests::command::openstack;
use mizar_tests::harness::Scenario;
use mizar_tests::{bed, harness};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

const SCENARIOS: &[Scenario] = &[
    ("the_openstack_command_makes_lists_shows_changes_and_deletes", full_circle),
    ("the_openstack_command_sees_nothing_of_another_project", isolated),
    ("the_openstack_command_shows_the_servers_reason_for_a_refusal", refused),
];

struct Client {
    program: PathBuf,
    environment: Vec<(&'static str, String)>,
}

impl Client {
    fn new(bed: &Bed, user: &str) -> Result<Self> {
        let password = mizar::sandbox::secrets::Secrets::load(bed.sandbox.layout())?.of(user)?;
        let environment = vec![
            ("OS_AUTH_URL", format!("{}/v3", bed.sandbox.api_url())),
            ("OS_USERNAME", user.into()),
            ("OS_PASSWORD", password),
            ("OS_PROJECT_NAME", user.into()),
            ("OS_USER_DOMAIN_ID", "default".into()),
            ("OS_PROJECT_DOMAIN_ID", "default".into()),
            ("OS_IDENTITY_API_VERSION", "3".into()),
        ];
        Ok(Self { program: openstack()?, environment })
    }

    fn raw(&self, words: &str) -> Result<std::process::Output> {
        let mut command = Command::new(&self.program);
        command.args(words.split_whitespace()).envs(self.environment.iter().map(|(k, v)| (k, v)));
        command.output().with_context(|| format!("openstack {words}"))
    }

    fn run(&self, words: &str) -> Result<String> {
        let output = self.raw(words)?;
        ensure!(output.status.success(), "openstack {words}: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8(output.stdout)?)
    }

    fn json(&self, words: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.run(&format!("{words} -f json"))?)?)
    }
}

fn full_circle(bed: &Bed) -> Result<()> {
    bed.tenant()?;
    let red = Client::new(bed, "tenant0")?;
    red.run("token issue")?;
    let network = red.json("network create n1")?;
    ensure!(network["name"] == "n1" && network["mtu"] == 1398, "{network}");
    let subnet = red.json("subnet create --network n1 --subnet-range 10.5.0.0/24 --dns-nameserver 192.0.2.53 s1")?;
    ensure!(subnet["cidr"] == "10.5.0.0/24" && subnet["gateway_ip"] == "10.5.0.1", "{subnet}");
    let port = red.json("port create --network n1 --fixed-ip subnet=s1,ip-address=10.5.0.77 p1")?;
    ensure!(port["fixed_ips"][0]["ip_address"] == "10.5.0.77" && port["status"] == "DOWN", "{port}");
    for (words, names) in
        [("network list", "n1"), ("subnet list", "s1"), ("port list", "p1"), ("port list --network n1", "p1")]
    {
        let list = red.json(words)?;
        ensure!(list.as_array().is_some_and(|l| l.len() == 1 && l[0]["Name"] == names), "{words}: {list}");
    }
    red.run("network set --name renamed --description words n1")?;
    ensure!(red.json("network show renamed")?["description"] == "words", "the description was not set");
    red.run("network set --tag blue renamed")?;
    ensure!(red.json("network list --tags blue")?.as_array().is_some_and(|l| l.len() == 1), "not listed by its tag");
    red.run("port set --name p2 p1")?;
    red.run("port delete p2")?;
    red.run("subnet delete s1")?;
    red.run("network delete renamed")?;
    ensure!(red.json("network list")? == serde_json::json!([]), "something is left");
    Ok(())
}

fn isolated(bed: &Bed) -> Result<()> {
    let first = bed.tenant()?;
    bed.tenant()?;
    let net = first.network(&["10.5.0.0/24"])?;
    let (owner, other) = (Client::new(bed, "tenant0")?, Client::new(bed, "tenant1")?);
    let id = net.network.id;
    ensure!(owner.json(&format!("network show {id}"))?["id"] == id.to_string(), "its owner does not see it");
    ensure!(other.json("network list")? == serde_json::json!([]), "another project lists it");
    for words in [format!("network show {id}"), format!("network delete {id}"), format!("port create --network {id} x")]
    {
        ensure!(!other.raw(&words)?.status.success(), "another project may `{words}`");
    }
    Ok(())
}

fn refused(bed: &Bed) -> Result<()> {
    let tenant = bed.tenant()?;
    tenant.network(&["10.5.0.0/24"])?;
    let red = Client::new(bed, "tenant0")?;
    let output = red.raw("subnet create --network net --subnet-range 10.5.0.128/25 overlap")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "an overlapping subnet was accepted");
    ensure!(said.contains("10.5.0.128/25"), "the message does not name the range: {said}");
    Ok(())
}

fn main() -> ExitCode {
    harness::run("tclients", bed::settings(), &[SCENARIOS])
}
