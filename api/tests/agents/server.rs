//! A server at work, and agents that speak to it.

use crate::pki::{Authority, Directory, Pair};
use anyhow::{Context as _, ensure};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};
use mizar_api::agent::{self, AgentConfig, Agents, Listen, TlsPaths};
use mizar_compile::Write;
use mizar_db::pool::Use;
use mizar_testkit::TestDb;
use mizar_wire::Kind;
use mizar_wire::sync::{Ack, Ports, Register, Registered, SnapshotPage, SyncReply, SyncRequest};
use reqwest::{Client, ClientBuilder, Identity, Method, Response, StatusCode};
use serde::Serialize;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

pub const LEASE: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Server {
    pub db: TestDb,
    pub authority: Authority,
    pub agents: Agents,
    config: AgentConfig,
    _files: Directory,
}

/// See [`Server::moved_to`]. The database ends last.
pub struct Moved {
    pub agents: Agents,
    pub db: TestDb,
}

fn any_port() -> Listen {
    Listen::Address(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
}

impl Server {
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_on(any_port()).await
    }

    pub async fn start_on(listen: Listen) -> anyhow::Result<Self> {
        let (db, files, authority) = (TestDb::create().await?, Directory::new()?, Authority::new()?);
        let pair = authority.server()?;
        let tls = TlsPaths {
            cert: files.put("cert.pem", &pair.cert)?,
            key: files.put("key.pem", &pair.key)?,
            client_ca: files.put("ca.pem", &authority.pem)?,
        };
        let config = AgentConfig { listen, tls, database_url: db.url().to_owned(), lease: LEASE };
        let agents = agent::start(config.clone(), db.pool(8, Use::Commands)?).await?;
        ensure!(agents.is_ready(), "the feed is not followed");
        Ok(Self { db, authority, agents, config, _files: files })
    }

    /// Another replica on the same database.
    pub async fn replica(&self) -> anyhow::Result<Agents> {
        let config = AgentConfig { listen: any_port(), ..self.config.clone() };
        agent::start(config, self.db.pool(8, Use::Commands)?).await
    }

    /// A server on another database, for the same agents.
    pub async fn moved_to(&self, db: TestDb) -> anyhow::Result<Moved> {
        let config = AgentConfig { listen: any_port(), database_url: db.url().to_owned(), ..self.config.clone() };
        let agents = agent::start(config, db.pool(8, Use::Commands)?).await?;
        Ok(Moved { agents, db })
    }

    pub fn client(&self, identity: Option<&Pair>) -> anyhow::Result<Client> {
        Ok(self.builder(identity)?.build()?)
    }

    pub fn builder(&self, identity: Option<&Pair>) -> anyhow::Result<ClientBuilder> {
        let roots = [reqwest::Certificate::from_pem(self.authority.pem.as_bytes())?];
        let mut builder = Client::builder().tls_certs_only(roots).no_proxy();
        if let Some(Pair { cert, key }) = identity {
            builder = builder.identity(Identity::from_pem(format!("{cert}{key}").as_bytes())?);
        }
        Ok(builder)
    }

    /// An agent with a certificate of its own, not registered.
    pub fn stranger(&self, name: &str) -> anyhow::Result<Agent> {
        let client = self.client(Some(&self.authority.host(name)?))?;
        Ok(Agent {
            client,
            url: self.url(name),
            boot_id: format!("boot-of-{name}"),
            epoch: None,
            cursor: None,
            number: 0,
        })
    }

    pub fn url(&self, host: &str) -> String {
        format!("https://{}/agent/v1/hosts/{host}", self.agents.address())
    }

    /// A registered agent that has read its snapshot.
    pub async fn agent(&self, name: &str, last: u8) -> anyhow::Result<Agent> {
        let mut agent = self.stranger(name)?;
        agent.register(last).await?;
        agent.snapshot().await?;
        Ok(agent)
    }

    pub async fn commit(&self, writes: &[Write]) -> anyhow::Result<()> {
        let mut conn = self.db.connect().await?;
        commit(&mut conn, writes).await
    }

    pub async fn sql(&self, sql: &str) -> anyhow::Result<()> {
        Ok(self.db.connect().await?.batch_execute(sql).await?)
    }
}

pub async fn commit(conn: &mut AsyncPgConnection, writes: &[Write]) -> anyhow::Result<()> {
    conn.batch_execute("BEGIN").await?;
    mizar_db::entries::apply(conn, writes).await?;
    Ok(conn.batch_execute("COMMIT").await?)
}

pub struct Agent {
    pub client: Client,
    pub url: String,
    pub boot_id: String,
    pub epoch: Option<String>,
    pub cursor: Option<String>,
    pub number: u32,
}

pub fn registration(boot_id: &str, last: u8) -> Register {
    Register {
        protocol: mizar_wire::sync::PROTOCOL,
        abi: mizar_domain::model::ABI,
        boot_id: boot_id.into(),
        version: "test".into(),
        underlay: Ipv4Addr::new(10, 9, 0, last),
        mtu: 1500,
        az: "az1".into(),
        rack: "r1".into(),
        transit_hook: "tcx".into(),
    }
}

impl Agent {
    pub async fn put(&self, said: &impl Serialize) -> anyhow::Result<Response> {
        Ok(self.client.put(&self.url).json(said).send().await?)
    }

    pub async fn register(&mut self, last: u8) -> anyhow::Result<()> {
        let answer = self.put(&registration(&self.boot_id, last)).await?;
        let registered: Registered = expect(answer, StatusCode::OK).await?.json().await?;
        assert_eq!(registered.lease_s, 30);
        self.number = registered.number;
        Ok(())
    }

    pub async fn page(&self, query: &str) -> anyhow::Result<Response> {
        Ok(self.client.get(format!("{}/snapshot{query}", self.url)).send().await?)
    }

    /// All pages; keeps the first one's cursor.
    pub async fn snapshot(&mut self) -> anyhow::Result<Vec<SnapshotPage>> {
        let mut pages: Vec<SnapshotPage> = vec![expect(self.page("").await?, StatusCode::OK).await?.json().await?];
        while let Some(next) = pages.last().and_then(|page| page.next.clone()) {
            let page = self.page(&format!("?after={next}")).await?;
            pages.push(expect(page, StatusCode::OK).await?.json().await?);
        }
        let first = pages.first().context("no page")?;
        (self.epoch, self.cursor) = (Some(first.epoch.clone()), Some(first.cursor.clone()));
        Ok(pages)
    }

    /// A request that acknowledges what this agent holds.
    pub fn request(&self, wait_s: u32) -> SyncRequest {
        SyncRequest {
            protocol: mizar_wire::sync::PROTOCOL,
            abi: mizar_domain::model::ABI,
            boot_id: self.boot_id.clone(),
            epoch: self.epoch.clone(),
            cursor: self.cursor.clone(),
            wait_s,
            ack: self.cursor.clone().map(|cursor| Ack { cursor, failures: vec![] }),
            ports: Ports::default(),
            ports_complete: false,
        }
    }

    pub async fn post(&self, request: &impl Serialize) -> anyhow::Result<Response> {
        Ok(self.client.post(format!("{}/sync", self.url)).json(request).send().await?)
    }

    pub async fn sync_with(&mut self, request: &SyncRequest) -> anyhow::Result<SyncReply> {
        let reply: SyncReply = expect(self.post(request).await?, StatusCode::OK).await?.json().await?;
        (self.epoch, self.cursor) = (Some(reply.epoch.clone()), Some(reply.cursor.clone()));
        Ok(reply)
    }

    pub async fn sync(&mut self, wait_s: u32) -> anyhow::Result<SyncReply> {
        self.sync_with(&self.request(wait_s)).await
    }

    /// Syncs until it was told at least `count` changes of a kind: what two transactions wrote may
    /// come in one answer or in two. The last answer is not acknowledged yet.
    pub async fn told(&mut self, kind: Kind, count: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = 0;
        while seen < count {
            ensure!(Instant::now() < deadline, "told {seen} of {count} changes of {kind:?}");
            let reply = self.sync(1).await?;
            seen += reply.changes.iter().filter(|change| change.kind == kind as i16).count();
        }
        Ok(())
    }

    pub async fn send(&self, method: Method, path: &str, body: &str) -> anyhow::Result<Response> {
        Ok(self.client.request(method, format!("{}{path}", self.url)).body(body.to_owned()).send().await?)
    }
}

/// The response, if it has the status.
pub async fn expect(answer: Response, status: StatusCode) -> anyhow::Result<Response> {
    let got = answer.status();
    if got == status {
        return Ok(answer);
    }
    anyhow::bail!("{got} instead of {status}: {}", answer.text().await?)
}

/// Asks until the answer is yes.
pub async fn until<F: Future<Output = anyhow::Result<bool>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !ask().await? {
        ensure!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
