//! `PUT /agent/v1/hosts/{host}`.

use super::Shared;
use super::identity::HostName;
use super::problem::{Body, Problem, decode, supported};
use actix_web::web::{Data, Json};
use chrono::TimeDelta;
use mizar_db::agents::register::{self as db, Known, Registration};
use mizar_wire::sync::{Register, Registered};
use std::net::Ipv4Addr;

/// Names of failure domains, versions and boot ids are for people and logs.
const TEXT: usize = 255;

/// What a host's network needs at least: IPv6 asks for 1,280, and encapsulation comes on top.
const LEAST_MTU: u32 = 1_382;

pub(super) async fn register(
    HostName(name): HostName,
    shared: Data<Shared>,
    body: Body,
) -> Result<Json<Registered>, Problem> {
    let said = check(name, decode(body)?)?;
    let lease = TimeDelta::from_std(shared.lease).unwrap_or(TimeDelta::MAX);
    let number = db::register(&shared.pool, &said, lease).await?;
    tracing::info!(host = said.name, number, underlay = %said.underlay, "a host registered");
    shared.sessions.put(&said.name, Known { number: number.cast_signed(), boot_id: said.boot_id });
    Ok(Json(Registered { number, lease_s: u32::try_from(shared.lease.as_secs()).unwrap_or(u32::MAX) }))
}

fn check(name: String, register: Register) -> Result<Registration, Problem> {
    let Register { protocol, abi, boot_id, version, underlay, mtu, az, rack, transit_hook } = register;
    supported(protocol, abi)?;
    for (field, text, may_be_empty) in
        [("boot_id", &boot_id, false), ("az", &az, false), ("rack", &rack, false), ("version", &version, true)]
    {
        if text.len() > TEXT || (text.is_empty() && !may_be_empty) || text.chars().any(char::is_control) {
            return Err(Problem::malformed(format!(
                "'{field}' must be a text of 1 to {TEXT} bytes without control characters"
            )));
        }
    }
    if !usable(underlay) {
        return Err(Problem::malformed(format!(
            "'underlay' {underlay} is not an address that other hosts can send to"
        )));
    }
    let mtu = u16::try_from(mtu).ok().filter(|&mtu| u32::from(mtu) >= LEAST_MTU);
    let mtu = mtu.ok_or_else(|| Problem::malformed(format!("'mtu' must be {LEAST_MTU} to {}", u16::MAX)))?;
    if !matches!(transit_hook.as_str(), "xdp" | "tcx") {
        return Err(Problem::malformed("'transit_hook' must be 'xdp' or 'tcx'"));
    }
    let abi = abi.cast_signed();
    Ok(Registration { name, boot_id, underlay, mtu, az, rack, transit_hook, version, abi })
}

fn usable(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || address.is_broadcast())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register() -> Register {
        Register {
            protocol: mizar_wire::sync::PROTOCOL,
            abi: mizar_domain::model::ABI,
            boot_id: "b".into(),
            version: String::new(),
            underlay: Ipv4Addr::new(10, 0, 0, 1),
            mtu: 1500,
            az: "a".into(),
            rack: "r".into(),
            transit_hook: "tcx".into(),
        }
    }

    #[test]
    fn a_plain_registration_is_taken() {
        assert!(check("h".into(), register()).is_ok());
    }

    #[test]
    fn what_is_wrong_is_named() {
        type Spoil = fn(&mut Register);
        let cases: [(&str, Spoil); 9] = [
            ("boot_id", |r| r.boot_id.clear()),
            ("az", |r| r.az.clear()),
            ("rack", |r| r.rack = "x".repeat(256)),
            ("version", |r| r.version = "a\nb".into()),
            ("underlay", |r| r.underlay = Ipv4Addr::UNSPECIFIED),
            ("underlay", |r| r.underlay = Ipv4Addr::new(224, 0, 0, 1)),
            ("mtu", |r| r.mtu = 1_381),
            ("mtu", |r| r.mtu = 70_000),
            ("transit_hook", |r| r.transit_hook = "auto".into()),
        ];
        for (field, spoil) in cases {
            let mut spoiled = register();
            spoil(&mut spoiled);
            let refused = check("h".into(), spoiled).expect_err(field).to_string();
            assert!(refused.contains(&format!("'{field}'")), "{refused}");
        }
    }
}
