//! A small cloud: a database, hosts whose agents acknowledge, and commands of tenants.

use anyhow::{Context as _, Result, bail};
use diesel::sql_types::{Array, BigInt, Binary, Bool, Integer, Nullable, SmallInt, Text};
use diesel::{QueryDsl as _, QueryableByName, SelectableHelper as _, sql_query};
use diesel_async::{AsyncConnection as _, AsyncPgConnection, RunQueryDsl as _};
use mizar_db::agents::register::{Registration, register};
use mizar_db::ledger::Ledger;
use mizar_db::listing::Visibility;
use mizar_db::placement::state::{self, Phase, RoleState, SubnetState};
use mizar_db::pool::Use;
use mizar_db::resources::network::{self, Network};
use mizar_db::resources::port_commands;
use mizar_db::resources::subnet;
use mizar_db::resources::{Failure, port};
use mizar_db::schema::ports;
use mizar_domain::id::{NetworkId, PortId, ProjectId, SubnetId};
use mizar_domain::network::{CreateNetwork, NetworkExtras};
use mizar_domain::patch::Patch;
use mizar_domain::port::{CreatePort, UpdatePort, VnicType};
use mizar_domain::port_extras::PortExtras;
use mizar_domain::subnet::{CreateSubnet, SubnetExtras};
use mizar_domain::text::{Name, Tags};
use mizar_scheduler::Settings;
use mizar_scheduler::metrics::Metrics;
use mizar_testkit::TestDb;
use mizar_wire::body::{DividerSet, ShardMap};
use mizar_wire::{Body, Kind, Scope};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Nothing here takes longer, unless it is broken.
const DEADLINE: Duration = Duration::from_secs(20);

/// Short times, so that tests need not wait long; long enough for a loaded machine.
pub fn settings() -> Settings {
    Settings { lease: Duration::from_secs(2), drain: Duration::from_millis(200), ..Settings::default() }
}

/// What the agents of the hosts do.
#[derive(Default)]
struct Agents {
    /// Hosts that renew their leases.
    live: BTreeSet<u32>,
    /// Live hosts that acknowledge nothing.
    deaf: BTreeSet<u32>,
}

/// See the module.
pub struct Cloud {
    pub db: TestDb,
    agents: Arc<Mutex<Agents>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// A scheduler in this process; ends with this value.
pub struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Cloud {
    /// Hosts 1, 2, ... in these zones and racks, all alive.
    pub async fn new(places: &[(&str, &str)]) -> Result<Self> {
        let db = TestDb::create().await?;
        let pool = db.pool(2, Use::Commands)?;
        let mut live = BTreeSet::new();
        for ((az, rack), n) in places.iter().zip(1u8..) {
            let said = Registration {
                name: format!("h{n}"),
                boot_id: format!("boot-{n}"),
                underlay: [10, 0, 0, n].into(),
                mtu: 1500,
                az: (*az).to_owned(),
                rack: (*rack).to_owned(),
                transit_hook: "tcx".to_owned(),
                version: "test".to_owned(),
                abi: 1,
            };
            live.insert(register(&pool, &said, chrono::TimeDelta::seconds(30)).await?);
        }
        let agents = Arc::new(Mutex::new(Agents { live, ..Agents::default() }));
        let task = tokio::spawn(acknowledge(db.connect().await?, Arc::clone(&agents)));
        Ok(Self { db, agents, tasks: vec![task] })
    }

    /// Four hosts in two racks.
    pub async fn of_four() -> Result<Self> {
        Self::new(&[("az", "r1"), ("az", "r1"), ("az", "r2"), ("az", "r2")]).await
    }

    /// Starts a scheduler.
    pub fn schedule(&self, settings: Settings) -> Running {
        self.schedule_measured(settings, Arc::default())
    }

    /// The same, with what it says to operators.
    pub fn schedule_measured(&self, settings: Settings, metrics: Arc<Metrics>) -> Running {
        let url = self.db.url().to_owned();
        Running(tokio::spawn(async move {
            mizar_scheduler::run(&url, settings, &metrics).await;
        }))
    }

    /// The host falls silent, or speaks again.
    pub fn set_live(&self, host: u32, live: bool) {
        let mut agents = self.agents.lock().expect("no test panics with it");
        if live {
            agents.live.insert(host)
        } else {
            agents.live.remove(&host)
        };
    }

    /// The host renews its lease but acknowledges nothing, or does again.
    pub fn set_deaf(&self, host: u32, deaf: bool) {
        let mut agents = self.agents.lock().expect("no test panics with it");
        if deaf {
            agents.deaf.insert(host)
        } else {
            agents.deaf.remove(&host)
        };
    }

    pub async fn connect(&self) -> Result<AsyncPgConnection> {
        self.db.connect().await
    }

    pub async fn network(&self) -> Result<Network> {
        let command = CreateNetwork {
            id: NetworkId::random(),
            project: ProjectId::random(),
            name: Name::default(),
            description: Name::default(),
            admin_up: true,
            mtu: None,
            shared: false,
            external: false,
            port_security: true,
            vni: None,
            tags: Tags::default(),
            extras: NetworkExtras::default(),
        };
        let mut conn = self.connect().await?;
        let made =
            conn.transaction::<_, Failure, _>(async |conn| network::create(conn, 1500, &[command]).await).await?;
        made.into_iter().next().context("one network")
    }

    /// A subnet 10.`n`.0.0/16 of the network.
    pub async fn subnet(&self, network: &Network, n: u8) -> Result<SubnetState> {
        let command = CreateSubnet {
            id: SubnetId::random(),
            project: network.row.project_id.into(),
            network: network.row.id.into(),
            name: Name::default(),
            description: Name::default(),
            cidr: format!("10.{n}.0.0/16").parse()?,
            gateway: Patch::Keep,
            pools: None,
            dhcp: true,
            dns: Vec::new(),
            routes: Vec::new(),
            tags: Tags::default(),
            extras: SubnetExtras::default(),
        };
        let mut conn = self.connect().await?;
        let create = async |conn: &mut AsyncPgConnection| subnet::create(conn, Visibility::All, &[command]).await;
        let made = conn.transaction::<_, Failure, _>(create).await?;
        let row = made.into_iter().next().context("one subnet")?;
        let vni = network.row.vni.cast_unsigned();
        Ok(SubnetState { id: row.id, number: row.number.cast_unsigned(), vni, ports: 0 })
    }

    /// Ports with one address each, bound to the host.
    pub async fn ports(&self, network: &Network, host: u32, count: usize) -> Result<Vec<port::Port>> {
        self.ports_on(network, vec![host; count]).await
    }

    /// One port on each of the hosts, made at once.
    pub async fn ports_on(&self, network: &Network, hosts: Vec<u32>) -> Result<Vec<port::Port>> {
        self.ports_with(network, hosts, &PortExtras::default()).await
    }

    /// The same with attributes.
    pub async fn ports_with(&self, network: &Network, hosts: Vec<u32>, extras: &PortExtras) -> Result<Vec<port::Port>> {
        let command = |host: u32| CreatePort {
            id: PortId::random(),
            project: network.row.project_id.into(),
            network: network.row.id.into(),
            name: Name::default(),
            description: Name::default(),
            admin_up: true,
            mac: None,
            fixed_ips: None,
            device_id: Name::default(),
            device_owner: Name::default(),
            pairs: Vec::new(),
            port_security: None,
            security_groups: None,
            host: Some(format!("h{host}")),
            vnic_type: VnicType::Normal,
            profile: serde_json::json!({}),
            tags: Tags::default(),
            extras: extras.clone(),
            qos_policy: None,
        };
        let commands: Vec<CreatePort> = hosts.into_iter().map(command).collect();
        let mut conn = self.connect().await?;
        let create = async |conn: &mut AsyncPgConnection| {
            port_commands::create(conn, &mut Ledger::default(), Visibility::All, &commands).await
        };
        Ok(conn.transaction::<_, Failure, _>(create).await?)
    }

    /// Binds a port to another host.
    pub async fn rebind(&self, id: Uuid, host: u32) -> Result<()> {
        let mut conn = self.connect().await?;
        let command = UpdatePort { host: Patch::Set(format!("h{host}")), ..UpdatePort::default() };
        let update = async |conn: &mut AsyncPgConnection| {
            let network = port_commands::lock(conn, id).await?.ok_or(Failure::Contended)?;
            let rows = ports::table.find(id).select(port::PortRow::as_select()).load(conn).await?;
            let port = port::complete(conn, rows).await?.into_iter().next().ok_or(Failure::Contended)?;
            port_commands::update(conn, Visibility::All, network, port, &command).await
        };
        conn.transaction::<_, Failure, _>(update).await?;
        Ok(())
    }

    pub async fn label(&self, host: u32, transit: &str) -> Result<()> {
        self.execute(&format!("UPDATE hosts SET transit = '{transit}' WHERE number = {host}")).await?;
        Ok(())
    }

    pub async fn execute(&self, statement: &str) -> Result<usize> {
        let mut conn = self.connect().await?;
        sql_query(statement).execute(&mut conn).await.with_context(|| statement.to_owned())
    }

    pub async fn number(&self, query: &str) -> Result<i64> {
        #[derive(QueryableByName)]
        struct One {
            #[diesel(sql_type = BigInt)]
            n: i64,
        }
        let mut conn = self.connect().await?;
        let one: One = sql_query(format!("SELECT ({query})::bigint AS n"))
            .get_result(&mut conn)
            .await
            .with_context(|| query.to_owned())?;
        Ok(one.n)
    }

    /// The live body of an entry.
    pub async fn body(&self, scope: Scope, kind: Kind, key: Vec<u8>) -> Result<Option<Body>> {
        #[derive(QueryableByName)]
        struct One {
            #[diesel(sql_type = Binary)]
            body: Vec<u8>,
        }
        let mut conn = self.connect().await?;
        let found: Vec<One> =
            sql_query("SELECT body FROM entries WHERE NOT deleted AND scope = $1 AND kind = $2 AND key = $3")
                .bind::<BigInt, _>(scope.to_i64())
                .bind::<SmallInt, _>(kind as i16)
                .bind::<Binary, _>(key)
                .load(&mut conn)
                .await?;
        found.into_iter().next().map(|one| Ok(Body::from_value(kind, serde_json::from_slice(&one.body)?)?)).transpose()
    }

    pub async fn shard_map(&self, subnet: &SubnetState) -> Result<Option<ShardMap>> {
        let body = self.body(Scope::Senders(subnet.number), Kind::ShardMap, subnet.id.as_bytes().to_vec()).await?;
        Ok(match body {
            Some(Body::ShardMap(map)) => Some(map),
            _ => None,
        })
    }

    pub async fn divider_set(&self, network: &Network) -> Result<Option<DividerSet>> {
        let scope = Scope::Network(network.row.vni.cast_unsigned());
        let body = self.body(scope, Kind::DividerSet, network.row.id.as_bytes().to_vec()).await?;
        Ok(match body {
            Some(Body::DividerSet(set)) => Some(set),
            _ => None,
        })
    }

    pub async fn roles(&self, scope: Scope) -> Result<Vec<RoleState>> {
        let mut conn = self.connect().await?;
        let mut roles = state::roles(&mut conn, Some(&[scope])).await?;
        roles.sort_by_key(|role| role.key);
        Ok(roles)
    }

    /// Holders of a scope by phase.
    pub async fn holders(&self, scope: Scope, phase: Phase) -> Result<Vec<u32>> {
        let roles = self.roles(scope).await?;
        Ok(roles.into_iter().filter(|r| r.phase == phase).map(|r| r.key.host).collect())
    }

    /// Waits until the map of a subnet is as it should be; returns it.
    pub async fn mapped(&self, subnet: &SubnetState, wanted: impl Fn(&ShardMap) -> bool) -> Result<ShardMap> {
        let mut last = None;
        let mapped = self
            .until("the shard map", async || {
                last = self.shard_map(subnet).await?;
                Ok(last.clone().filter(&wanted))
            })
            .await;
        mapped.with_context(|| format!("last seen: {last:?}"))
    }

    /// Waits until every shard has two listed holders.
    pub async fn full_map(&self, subnet: &SubnetState) -> Result<ShardMap> {
        self.mapped(subnet, |map| map.shards.iter().flatten().all(|host| *host != 0)).await
    }

    /// Waits until `look` yields something.
    pub async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
        let started = Instant::now();
        loop {
            if let Some(found) = look().await? {
                return Ok(found);
            }
            if started.elapsed() > DEADLINE {
                bail!("{what} did not come within {DEADLINE:?}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until a number is as it should be.
    pub async fn until_number(&self, query: &str, wanted: i64) -> Result<()> {
        let mut last = None;
        let waited = self
            .until(query, async || {
                last = Some(self.number(query).await?);
                Ok((last == Some(wanted)).then_some(()))
            })
            .await;
        waited.with_context(|| format!("wanted {wanted}, last {last:?}"))
    }

    /// Statuses of all ports, each once, sorted.
    pub async fn statuses(&self) -> Result<Vec<String>> {
        #[derive(QueryableByName)]
        struct One {
            #[diesel(sql_type = Text)]
            status: String,
        }
        let mut conn = self.connect().await?;
        let all: Vec<One> = sql_query("SELECT DISTINCT status FROM ports ORDER BY 1").load(&mut conn).await?;
        Ok(all.into_iter().map(|one| one.status).collect())
    }

    /// Everything that a scheduler wrote, as text: two equal ones mean that nothing was written.
    pub async fn written(&self) -> Result<String> {
        #[derive(QueryableByName, Debug)]
        #[expect(dead_code, reason = "read by Debug")]
        struct Row {
            #[diesel(sql_type = BigInt)]
            scope: i64,
            #[diesel(sql_type = Nullable<Integer>)]
            host: Option<i32>,
            #[diesel(sql_type = Bool)]
            deleted: bool,
            #[diesel(sql_type = BigInt)]
            xid: i64,
        }
        let mut conn = self.connect().await?;
        let all: Vec<Row> = sql_query(
            "SELECT scope, host, deleted, xid FROM subscriptions UNION ALL \
             SELECT scope, kind::int, deleted, xid FROM entries ORDER BY 1, 2, 4",
        )
        .load(&mut conn)
        .await?;
        Ok(format!("{all:?}"))
    }

    pub fn rack(host: u32) -> u32 {
        host.div_ceil(2)
    }
}

/// What agents write through the API, for all hosts at once: the lease, and an acknowledgement of
/// all that is committed.
async fn acknowledge(mut conn: AsyncPgConnection, agents: Arc<Mutex<Agents>>) {
    loop {
        let (live, deaf): (Vec<i32>, Vec<i32>) = {
            let agents = agents.lock().expect("no test panics with it");
            let numbers = |hosts: &BTreeSet<u32>| hosts.iter().map(|h| h.cast_signed()).collect();
            (numbers(&agents.live), numbers(&agents.deaf))
        };
        let done = sql_query(
            "UPDATE host_state SET seen_at = clock_timestamp(), \
             epoch = CASE WHEN host = ANY($2) THEN epoch ELSE feed_epoch() END, \
             cursor = CASE WHEN host = ANY($2) THEN cursor ELSE pg_current_snapshot()::text END WHERE host = ANY($1)",
        )
        .bind::<Array<Integer>, _>(live)
        .bind::<Array<Integer>, _>(deaf)
        .execute(&mut conn)
        .await;
        if done.is_err() {
            // The test is over and its database gone.
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Ids and numbers in one place, for queries.
pub fn sql_id(id: Uuid) -> String {
    format!("'{id}'::uuid")
}
