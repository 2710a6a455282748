//! The real `openstack` command, unmodified, as tenants use it.

use crate::support::{ADMIN_PASSWORD, Client, Cloud};
use anyhow::{Context as _, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// `./dev test` installs it and says where; otherwise it is looked for where `./dev test` puts it.
pub fn program() -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let bin = std::env::var_os("MIZAR_PYTHON").map_or_else(|| root.join(".dev/venv/bin"), PathBuf::from);
    let program = bin.join("openstack");
    ensure!(
        program.exists(),
        "{} is missing: run `python3 -m venv .dev/venv && .dev/venv/bin/pip install -r tests/requirements.txt`",
        program.display()
    );
    Ok(program)
}

/// Somebody at a command line.
pub struct OpenStack {
    program: PathBuf,
    environment: Vec<(&'static str, String)>,
}

impl OpenStack {
    fn logged_in(url: &str, user: &str, password: &str) -> anyhow::Result<Self> {
        let given = |name, value: &str| (name, value.to_owned());
        let environment = vec![
            ("OS_AUTH_URL", format!("{url}/v3")),
            given("OS_IDENTITY_API_VERSION", "3"),
            given("OS_USERNAME", user),
            given("OS_PASSWORD", password),
            given("OS_PROJECT_NAME", user),
            given("OS_USER_DOMAIN_NAME", "Default"),
            given("OS_PROJECT_DOMAIN_NAME", "Default"),
        ];
        Ok(Self { program: program()?, environment })
    }

    /// The tenant `red`.
    pub fn of(client: &Client) -> anyhow::Result<Self> {
        Self::logged_in(&client.base, "red", "secret")
    }

    /// The administrator.
    pub fn admin(cloud: &Cloud) -> anyhow::Result<Self> {
        Self::logged_in(&cloud.url, "admin", ADMIN_PASSWORD)
    }

    /// A program that has no password.
    pub fn with_application_credential(cloud: &Cloud, id: &str, secret: &str) -> anyhow::Result<Self> {
        let environment = vec![
            ("OS_AUTH_URL", format!("{}/v3", cloud.url)),
            ("OS_AUTH_TYPE", "v3applicationcredential".to_owned()),
            ("OS_APPLICATION_CREDENTIAL_ID", id.to_owned()),
            ("OS_APPLICATION_CREDENTIAL_SECRET", secret.to_owned()),
        ];
        Ok(Self { program: program()?, environment })
    }

    /// Runs a Python program where openstacksdk is.
    pub async fn python(&self, text: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let python = self.program.with_file_name("python3");
        let mut run = Command::new(python);
        run.arg("-c").arg(text).args(arguments).env_clear().env("HOME", "/nonexistent").kill_on_drop(true);
        let output = run.output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    async fn output(&self, words: &str) -> anyhow::Result<std::process::Output> {
        let run = Command::new(&self.program)
            .args(words.split_whitespace())
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (*name, value)))
            .env("HOME", "/nonexistent")
            .kill_on_drop(true)
            .output();
        run.await.with_context(|| format!("openstack {words}"))
    }

    pub async fn run(&self, words: &str) -> anyhow::Result<String> {
        let output = self.output(words).await?;
        ensure!(output.status.success(), "openstack {words}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    pub async fn json(&self, words: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.run(&format!("{words} -f json")).await?)?)
    }

    pub async fn refused(&self, words: &str) -> anyhow::Result<String> {
        let output = self.output(words).await?;
        ensure!(!output.status.success(), "openstack {words} should fail");
        Ok(String::from_utf8(output.stderr)?)
    }
}

pub fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(|object| object["Name"].as_str()).collect()
}

#[tokio::test]
async fn the_openstack_command_does_all_that_a_tenant_does() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let os = OpenStack::of(&red)?;

    let network = os.json("network create --tag web net").await?;
    assert_eq!((&network["name"], &network["mtu"]), (&"net".into(), &1398.into()));
    os.run("network set --description changed --name net2 net").await?;
    assert_eq!(os.json("network show net2").await?["description"], "changed");
    assert_eq!(names(&os.json("network list --tags web --enable").await?), ["net2"]);

    let subnet = "subnet create --network net2 --subnet-range 10.0.0.0/24 --dns-nameserver 9.9.9.9 sub";
    assert_eq!(os.json(subnet).await?["gateway_ip"], "10.0.0.1");
    os.run("subnet set --host-route destination=172.16.0.0/12,gateway=10.0.0.7 sub").await?;
    assert_eq!(os.json("subnet show sub").await?["host_routes"][0]["nexthop"], "10.0.0.7");
    assert_eq!(names(&os.json("subnet list --network net2 --dhcp").await?), ["sub"]);

    let port = os.json("port create --network net2 --fixed-ip subnet=sub,ip-address=10.0.0.9 --device vm p1").await?;
    assert_eq!(port["fixed_ips"][0]["ip_address"], "10.0.0.9");
    os.run("port create --network net2 p2").await?;
    os.run("port set --name p1a --fixed-ip subnet=sub --allowed-address ip-address=10.0.0.99 --disable p1").await?;
    let shown = os.json("port show p1a").await?;
    assert_eq!(shown["fixed_ips"].as_array().map(Vec::len), Some(2));
    assert_eq!(shown["admin_state_up"], false);
    os.run("port unset --device p1a").await?;
    os.run("port set --tag blue p1a").await?;
    let mut listed = os.json("port list --network net2 --long").await?;
    listed.as_array_mut().context("no list")?.sort_by_key(|port| port["Name"].to_string());
    assert_eq!(names(&listed), ["p1a", "p2"]);
    assert_eq!(names(&os.json("port list --fixed-ip ip-address=10.0.0.9").await?), ["p1a"]);
    assert_eq!(names(&os.json("port list --any-tags blue,green").await?), ["p1a"]);

    assert!(os.refused("network delete net2").await?.contains("ports still in use"));
    assert!(os.refused("subnet create --network net2 --subnet-range 10.0.0.0/25 s2").await?.contains("overlaps"));
    assert!(os.refused("port show nothing").await?.contains("No Port found for nothing"));
    os.run("port delete p1a p2").await?;
    os.run("subnet delete sub").await?;
    os.run("network delete net2").await?;
    assert_eq!(cloud.rows("SELECT 1 FROM networks").await?.len(), 0);
    assert!(os.run("extension list --network -c Alias").await?.contains("standard-attr-tag"));
    os.run("token issue").await?;
    Ok(())
}
