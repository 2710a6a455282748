//! Names and aliases of interfaces.

use mizar_wire::local::AttachKind;
use uuid::Uuid;

/// Bytes that the kernel keeps of an alias (IFALIASZ, with its zero).
const ALIAS_LEN: usize = 255;

/// Name of the host's end.
pub fn host_ifname(port: Uuid) -> String {
    let id = port.hyphenated().to_string();
    format!("tap{}", &id[..11])
}

/// Whether a path names a namespace for whoever reads it, in the alias too, after a restart too.
pub fn check_netns(netns: &str) -> Result<(), String> {
    let fine = netns.starts_with('/') && !netns.chars().any(char::is_control);
    if fine { Ok(()) } else { Err(format!("netns: {netns:?} is no absolute path")) }
}

/// Describes an interface for its alias. `Err` if it does not fit.
pub fn write_alias(port: Uuid, kind: &AttachKind) -> Result<String, String> {
    let text = match kind {
        AttachKind::Container { netns, ifname } => format!("mizar 1 {port} container {ifname} {netns}"),
        AttachKind::Tap => format!("mizar 1 {port} tap"),
        AttachKind::Host { ifname } => format!("mizar 1 {port} host {ifname}"),
    };
    if text.len() > ALIAS_LEN {
        return Err(format!("netns: at most {} bytes fit", ALIAS_LEN - (text.len() - netns_len(kind))));
    }
    Ok(text)
}

fn netns_len(kind: &AttachKind) -> usize {
    match kind {
        AttachKind::Container { netns, .. } => netns.len(),
        AttachKind::Tap | AttachKind::Host { .. } => 0,
    }
}

/// Reads an alias; `None` if it is not a finished interface of ours.
pub fn parse_alias(alias: &str) -> Option<(Uuid, AttachKind)> {
    let rest = alias.strip_prefix("mizar 1 ")?;
    let (port, rest) = rest.split_once(' ')?;
    let port = port.parse().ok()?;
    let kind = match rest.split_once(' ') {
        None if rest == "tap" => AttachKind::Tap,
        Some(("host", ifname)) => AttachKind::Host { ifname: ifname.to_owned() },
        Some(("container", rest)) => {
            let (ifname, netns) = rest.split_once(' ')?;
            AttachKind::Container { netns: netns.to_owned(), ifname: ifname.to_owned() }
        }
        _ => return None,
    };
    Some((port, kind))
}

/// Whether the kernel takes this as an interface name, and the alias as a word. A `%` would ask the
/// kernel for a name of its own choice.
pub fn check_ifname(ifname: &str) -> Result<(), String> {
    let fine = (1..=15).contains(&ifname.len())
        && ifname != "."
        && ifname != ".."
        && ifname.bytes().all(|b| b.is_ascii_graphic() && !b"/:%".contains(&b));
    if fine { Ok(()) } else { Err(format!("ifname: {ifname:?} is no interface name")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_reads_as_it_was_written() {
        let port = Uuid::from_u128(0x1234_5678_9abc_def0_1234_5678_9abc_def0);
        for kind in [
            AttachKind::Tap,
            AttachKind::Host { ifname: "mz0".into() },
            AttachKind::Container { netns: "/run/netns/with a space".into(), ifname: "eth0".into() },
        ] {
            let alias = write_alias(port, &kind).unwrap();
            assert_eq!(parse_alias(&alias), Some((port, kind)));
        }
        assert_eq!(host_ifname(port), "tap12345678-9a");
        for foreign in ["", "mizar", "mizar 2 x tap", "mizar 1 no-uuid tap", "somebody's"] {
            assert_eq!(parse_alias(foreign), None);
        }
        let long = AttachKind::Container { netns: "/".repeat(240), ifname: "eth0".into() };
        assert!(write_alias(port, &long).unwrap_err().starts_with("netns"));
    }

    #[test]
    fn namespaces_are_absolute_paths() {
        assert!(check_netns("/run/netns/with a space").is_ok());
        for bad in ["", "run/netns/x", "../x", "/run/netns/a\nb", "/run/netns/\0"] {
            assert!(check_netns(bad).unwrap_err().starts_with("netns"), "{bad:?}");
        }
    }

    #[test]
    fn interface_names_are_what_the_kernel_takes() {
        assert!(check_ifname("eth0").is_ok());
        for bad in ["", ".", "..", "a b", "a/b", "sixteen-letters!", "a:b", "ü", "eth%d"] {
            assert!(check_ifname(bad).is_err(), "{bad}");
        }
    }
}
