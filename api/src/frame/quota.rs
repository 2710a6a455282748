//! How many objects of a kind a project may have, where its own limit says nothing.

use std::collections::BTreeMap;
use std::str::FromStr;

/// Limits by resource; −1: none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quotas(BTreeMap<String, i64>);

/// As Neutron's.
const DEFAULTS: &[(&str, i64)] = &[
    ("address_group", -1),
    ("address_scope", -1),
    ("floatingip", 50),
    ("label_policy", 1000),
    ("network", 100),
    ("port", 500),
    ("rbac_policy", 10),
    ("router", 10),
    ("router_route", 30),
    ("security_group", 10),
    ("security_group_rule", 100),
    ("subnet", 100),
    ("subnetpool", -1),
    ("trunk", -1),
];

impl Default for Quotas {
    fn default() -> Self {
        Self(DEFAULTS.iter().map(|(name, limit)| ((*name).to_owned(), *limit)).collect())
    }
}

impl Quotas {
    /// Of a resource; one without a default has no limit.
    pub fn limit(&self, resource: &str) -> i64 {
        self.0.get(resource).copied().unwrap_or(-1)
    }

    /// All.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(name, limit)| (name.as_str(), *limit))
    }
}

/// `network=200,port=-1`: the rest stays as it is by default.
impl FromStr for Quotas {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut quotas = Self::default();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, limit) = pair.split_once('=').ok_or_else(|| format!("'{pair}' is not RESOURCE=LIMIT"))?;
            let limit: i64 = limit.trim().parse().map_err(|_| format!("'{limit}' is not a number"))?;
            let known = quotas.0.get_mut(name.trim()).ok_or_else(|| format!("'{name}' has no quota"))?;
            if limit < -1 {
                return Err(format!("'{limit}' is neither a limit nor -1"));
            }
            *known = limit;
        }
        Ok(quotas)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_limits_replace_the_defaults_and_unknown_names_are_refused() {
        let quotas: Quotas = "network=2, port=-1".parse().unwrap();
        assert_eq!((quotas.limit("network"), quotas.limit("port"), quotas.limit("subnet")), (2, -1, 100));
        for wrong in ["networks=2", "network", "network=x", "network=-2"] {
            assert!(wrong.parse::<Quotas>().is_err(), "{wrong}");
        }
    }
}
