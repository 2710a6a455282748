//! What a port holds that no query asks for: attributes that are stored together, shown, and at most told to its host.

use crate::dhcp_option::ExtraOption;
use crate::dns::{CLOUD_DOMAIN, DnsDomain, DnsName};
use crate::label_policy::Labels;
use crate::model::{DhcpOption, Labelled};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Option of the host name (RFC 2132, 3.14).
const HOST_NAME: u8 = 12;
/// Option of the domain that names are looked up in (RFC 2132, 3.17).
const DOMAIN_NAME: u8 = 15;

/// Which placement of its machine a port asks Nova for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "Nova's words, which mean nothing here")]
pub enum NumaPolicy {
    Required,
    Preferred,
    Legacy,
    Socket,
}

impl NumaPolicy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Required, Self::Preferred, Self::Legacy, Self::Socket];

    /// Neutron's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Preferred => "preferred",
            Self::Legacy => "legacy",
            Self::Socket => "socket",
        }
    }
}

/// What somebody who watches the data plane from outside says about a port. We ourselves say it in its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum DataPlaneStatus {
    /// Packets pass.
    Active,
    /// They do not.
    Down,
}

impl DataPlaneStatus {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Active, Self::Down];

    /// Neutron's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Down => "DOWN",
        }
    }
}

/// The attributes. What has its default is not stored: most ports hold nothing of this. What a later
/// version stores besides must not make the port unreadable for this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortExtras {
    /// `extra_dhcp_opts`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dhcp_options: Vec<ExtraOption>,
    /// `dns_name`.
    #[serde(skip_serializing_if = "DnsName::is_empty")]
    pub dns_name: DnsName,
    /// `dns_domain`.
    #[serde(skip_serializing_if = "DnsDomain::is_empty")]
    pub dns_domain: DnsDomain,
    /// `propagate_uplink_status`.
    #[serde(skip_serializing_if = "is_default_uplink")]
    pub propagate_uplink_status: bool,
    /// `device_profile`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_profile: Option<String>,
    /// `hints`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hints: Option<Map<String, Value>>,
    /// `numa_affinity_policy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numa_affinity_policy: Option<NumaPolicy>,
    /// `data_plane_status`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_plane_status: Option<DataPlaneStatus>,
    /// `trusted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted: Option<bool>,
    /// `mizar:labels`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// What its labels are called; the command that stores them says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_set: Option<LabelSet>,
}

/// What the labels of a port are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelSet {
    /// Their number.
    pub number: i32,
    /// That of the project whose label policies select by them.
    pub project: i32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
const fn is_default_uplink(propagates: &bool) -> bool {
    *propagates
}

impl Default for PortExtras {
    fn default() -> Self {
        Self {
            dhcp_options: Vec::new(),
            dns_name: DnsName::default(),
            dns_domain: DnsDomain::default(),
            propagate_uplink_status: true,
            device_profile: None,
            hints: None,
            numa_affinity_policy: None,
            data_plane_status: None,
            trusted: None,
            labels: None,
            label_set: None,
        }
    }
}

impl PortExtras {
    /// Whether its full name depends on its network.
    pub const fn is_named_by_network(&self) -> bool {
        !self.dns_name.is_empty() && self.dns_domain.is_empty()
    }

    /// The domain of its names: its own, its network's, the cloud's. As in Neutron the first two count for a port that
    /// has a name.
    pub fn domain<'a>(&'a self, of_network: &'a str) -> &'a str {
        [self.dns_domain.as_str(), of_network]
            .into_iter()
            .find(|domain| !domain.is_empty() && !self.dns_name.is_empty())
            .unwrap_or(CLOUD_DOMAIN)
    }

    /// By what label policies know it.
    pub fn labelled(&self) -> Option<Labelled> {
        let (labels, set) = (self.labels.as_ref()?, self.label_set?);
        Some(Labelled { project: set.project.cast_unsigned(), labels: labels.clone() })
    }

    /// What DHCP tells it: its options, and its name where these do not say it.
    pub fn told(&self) -> Vec<DhcpOption> {
        let mut told: Vec<DhcpOption> = self.dhcp_options.iter().filter_map(|option| option.sent().cloned()).collect();
        let domain = self.dns_domain.as_str().trim_end_matches('.');
        for (code, text) in [(HOST_NAME, self.dns_name.host()), (DOMAIN_NAME, domain)] {
            if !text.is_empty() && told.iter().all(|option| option.code != code) {
                told.push(DhcpOption { code, value: text.as_bytes().to_vec() });
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn what_has_its_default_is_not_stored() {
        assert_eq!(serde_json::to_value(PortExtras::default()).unwrap(), serde_json::json!({}));
        assert_eq!(serde_json::from_str::<PortExtras>("{}").unwrap(), PortExtras::default());
        let all = PortExtras {
            dhcp_options: vec![ExtraOption::new("mtu", "1400").unwrap()],
            dns_name: DnsName::new("web").unwrap(),
            dns_domain: DnsDomain::new("example.org.").unwrap(),
            propagate_uplink_status: false,
            device_profile: Some("gpu".into()),
            hints: Some(Map::new()),
            numa_affinity_policy: Some(NumaPolicy::Socket),
            data_plane_status: Some(DataPlaneStatus::Down),
            trusted: Some(true),
            labels: Some(Labels {
                namespace: "shop".into(),
                namespace_labels: BTreeMap::new(),
                labels: BTreeMap::new(),
            }),
            label_set: Some(LabelSet { number: 7, project: 3 }),
        };
        let stored = serde_json::to_value(&all).unwrap();
        assert_eq!(stored.as_object().map(Map::len), Some(11));
        assert_eq!((&stored["numa_affinity_policy"], &stored["data_plane_status"]), (&"socket".into(), &"DOWN".into()));
        assert_eq!(serde_json::from_value::<PortExtras>(stored).unwrap(), all);
    }

    #[test]
    fn words_are_stored_as_they_are_shown() {
        for policy in NumaPolicy::ALL {
            assert_eq!(serde_json::to_value(policy).unwrap(), policy.as_str());
        }
        for status in DataPlaneStatus::ALL {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
    }

    #[test]
    fn a_name_is_told_by_dhcp_unless_an_option_says_it() {
        let mut extras = PortExtras { dns_name: DnsName::new("web.a.").unwrap(), ..PortExtras::default() };
        let option = |code, value: &str| DhcpOption { code, value: value.into() };
        assert_eq!(extras.told(), [option(12, "web")]);
        extras.dns_domain = DnsDomain::new("example.org.").unwrap();
        extras.dhcp_options = vec![ExtraOption::new("hostname", "other").unwrap()];
        assert_eq!(extras.told(), [option(12, "other"), option(15, "example.org")]);
    }

    #[test]
    fn only_a_name_is_in_another_domain_than_the_clouds() {
        let mut extras = PortExtras { dns_domain: DnsDomain::new("own.org.").unwrap(), ..PortExtras::default() };
        assert_eq!(extras.domain("network.org."), CLOUD_DOMAIN);
        extras.dns_name = DnsName::new("web").unwrap();
        assert_eq!(extras.domain("network.org."), "own.org.");
        extras.dns_domain = DnsDomain::default();
        assert_eq!(extras.domain("network.org."), "network.org.");
        assert_eq!(extras.domain(""), CLOUD_DOMAIN);
    }
}
