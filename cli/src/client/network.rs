//! Networks, subnets and ports (Neutron v2.0).

use super::Api;
use crate::sandbox::process::wait_until;
use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::time::Duration;
use uuid::Uuid;

/// What is used of a network.
#[derive(Clone, Debug, Deserialize)]
pub struct Network {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Bytes of inner IP packet.
    pub mtu: u32,
}

/// What is used of a subnet.
#[derive(Clone, Debug, Deserialize)]
pub struct Subnet {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Its network.
    pub network_id: Uuid,
    /// Its addresses.
    pub cidr: IpNet,
    /// Its router's address.
    pub gateway_ip: Option<IpAddr>,
}

/// An address of a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedIp {
    /// Of this subnet.
    pub subnet_id: Uuid,
    /// The address.
    pub ip_address: IpAddr,
}

/// What is used of a port.
#[derive(Clone, Debug, Deserialize)]
pub struct Port {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Its network.
    pub network_id: Uuid,
    /// ACTIVE, BUILD, DOWN or ERROR.
    pub status: String,
    /// Its MAC.
    pub mac_address: String,
    /// Its addresses.
    pub fixed_ips: Vec<FixedIp>,
    /// Its host; only the administrator sees it.
    #[serde(rename = "binding:host_id", default)]
    pub host: String,
}

impl Port {
    /// Its first address.
    pub fn address(&self) -> Result<IpAddr> {
        self.fixed_ips.first().map(|ip| ip.ip_address).with_context(|| format!("port {} has no address", self.name))
    }
}

/// A port to make.
#[derive(Clone, Debug)]
pub struct PortRequest<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its network.
    pub network: Uuid,
    /// Its subnet.
    pub subnet: Uuid,
    /// The address that it must have; otherwise any.
    pub address: Option<IpAddr>,
}

fn decode<T: DeserializeOwned>(mut answer: Value, member: &str) -> Result<T> {
    serde_json::from_value(answer[member].take()).with_context(|| format!("`{member}` of the answer is not understood"))
}

impl Api {
    /// Makes a network.
    pub fn create_network(&self, name: &str) -> Result<Network> {
        decode(self.post("/v2.0/networks", &json!({"network": {"name": name}}))?, "network")
    }

    /// Makes a subnet.
    pub fn create_subnet(&self, network: Uuid, name: &str, cidr: IpNet) -> Result<Subnet> {
        let body = json!({"subnet": {"network_id": network, "name": name, "ip_version": 4, "cidr": cidr}});
        decode(self.post("/v2.0/subnets", &body)?, "subnet")
    }

    /// Makes a port.
    pub fn create_port(&self, request: &PortRequest<'_>) -> Result<Port> {
        let mut fixed_ip = json!({"subnet_id": request.subnet});
        if let Some(address) = request.address {
            fixed_ip["ip_address"] = json!(address);
        }
        let body = json!({"port": {"network_id": request.network, "name": request.name, "fixed_ips": [fixed_ip]}});
        decode(self.post("/v2.0/ports", &body)?, "port")
    }

    /// The networks that one sees by this name.
    pub fn networks_named(&self, name: &str) -> Result<Vec<Network>> {
        decode(self.get(&format!("/v2.0/networks?name={name}"))?, "networks")
    }

    /// The networks that one sees.
    pub fn networks(&self) -> Result<Vec<Network>> {
        decode(self.get("/v2.0/networks")?, "networks")
    }

    /// The subnets of a network.
    pub fn subnets_of(&self, network: Uuid) -> Result<Vec<Subnet>> {
        decode(self.get(&format!("/v2.0/subnets?network_id={network}"))?, "subnets")
    }

    /// The ports of a network.
    pub fn ports_of(&self, network: Uuid) -> Result<Vec<Port>> {
        decode(self.get(&format!("/v2.0/ports?network_id={network}"))?, "ports")
    }

    /// Every port that one sees.
    pub fn ports(&self) -> Result<Vec<Port>> {
        decode(self.get("/v2.0/ports")?, "ports")
    }

    /// A port.
    pub fn port(&self, id: Uuid) -> Result<Port> {
        decode(self.get(&format!("/v2.0/ports/{id}"))?, "port")
    }

    /// A port by id, the beginning of one, or a name that only one port has.
    pub fn find_port(&self, name_or_id: &str) -> Result<Port> {
        if let Ok(id) = name_or_id.parse() {
            return self.port(id);
        }
        let named: Value = self.get(&format!("/v2.0/ports?name={name_or_id}"))?;
        let mut found: Vec<Port> = decode(named, "ports")?;
        match (found.pop(), found.len()) {
            (Some(port), 0) => Ok(port),
            (None, _) => bail!("PORT: there is no port `{name_or_id}`"),
            (Some(_), more) => bail!("PORT: {} ports are named `{name_or_id}`: give an id", more + 1),
        }
    }

    /// Binds a port to a host, or to none (`""`). The administrator's.
    pub fn bind_port(&self, id: Uuid, host: &str) -> Result<Port> {
        let body = json!({"port": {"binding:host_id": host}});
        decode(self.put(&format!("/v2.0/ports/{id}"), Some(&body))?, "port")
    }

    /// Waits until a port is ACTIVE.
    pub fn wait_active(&self, id: Uuid, patience: Duration) -> Result<Duration> {
        let mut last = self.port(id)?;
        let mut failed = None;
        let waited = wait_until(patience, || match self.port(id) {
            Ok(port) => {
                last = port;
                last.status == "ACTIVE"
            }
            Err(error) => {
                failed = Some(error);
                true
            }
        });
        match (failed, waited) {
            (Some(error), _) => Err(error),
            (None, Some(waited)) => Ok(waited),
            (None, None) => bail!("port {} is {} after {} s", last.name, last.status, patience.as_secs()),
        }
    }

    /// Deletes a network with its ports and subnets.
    pub fn delete_network_whole(&self, network: Uuid) -> Result<()> {
        for port in self.ports_of(network)? {
            self.delete(&format!("/v2.0/ports/{}", port.id))?;
        }
        for subnet in self.subnets_of(network)? {
            self.delete(&format!("/v2.0/subnets/{}", subnet.id))?;
        }
        self.delete(&format!("/v2.0/networks/{network}"))
    }
}
