//! A host's three PEM files.

use super::{Check, Here};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use x509_parser::prelude::{GeneralName, ParsedExtension, Pem, X509Certificate};

/// What a host's URI begins with.
const PREFIX: &str = "mizar://host/";
const DAY: i64 = 86_400;
/// From then on somebody should renew it.
const SOON: i64 = 30 * DAY;

/// Authority, certificate and key, as far as they are named.
pub fn checks(here: &Here) -> Vec<Check> {
    let Here { ca: Some(ca), cert: Some(cert), key: Some(key), .. } = here else {
        return vec![Check::warn(
            "certificates",
            "not looked at",
            "name them by --ca, --cert and --key, or as the agent does by MIZAR_CA, MIZAR_CERT and MIZAR_KEY",
        )];
    };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    vec![
        file("authority", ca, |pem| judge("authority", pem, now, None)),
        file("certificate", cert, |pem| judge("certificate", pem, now, Some(here.host.as_deref()))),
        private(key),
    ]
}

fn file(check: &str, path: &Path, judge: impl Fn(&[u8]) -> Check) -> Check {
    match std::fs::read(path) {
        Ok(pem) => judge(&pem),
        Err(error) => {
            Check::fail(check, format!("{}: {error}", path.display()), "put the file there, readable for the agent")
        }
    }
}

/// Every certificate of the file must be valid; `host`: the first must be that host's.
fn judge(check: &str, pem: &[u8], now: i64, host: Option<Option<&str>>) -> Check {
    let blocks: Result<Vec<Pem>, _> = Pem::iter_from_buffer(pem).collect();
    let blocks = blocks.unwrap_or_default();
    let certificates: Result<Vec<X509Certificate<'_>>, _> = blocks.iter().map(Pem::parse_x509).collect();
    let Some(certificates) = certificates.ok().filter(|list| !list.is_empty()) else {
        return Check::fail(check, "not a certificate in PEM", "issue it again");
    };
    if let Some(wanted) = host {
        let names = hosts(&certificates[0]);
        let [name] = names.as_slice() else {
            return Check::fail(
                check,
                format!("it names {} hosts", names.len()),
                "issue one with exactly one SAN URI mizar://host/NAME",
            );
        };
        if wanted.is_some_and(|wanted| wanted != *name) {
            return Check::fail(
                check,
                format!("it is host {name}'s"),
                "MIZAR_HOST and the certificate must name the same host",
            );
        }
    }
    let begins = certificates.iter().map(|c| c.validity().not_before.timestamp()).max().unwrap_or(now);
    let ends = certificates.iter().map(|c| c.validity().not_after.timestamp()).min().unwrap_or(now);
    let days = (ends - now).div_euclid(DAY);
    if now < begins {
        return Check::fail(
            check,
            format!("valid only in {} days", (begins - now).div_euclid(DAY) + 1),
            "look at this host's clock, or issue it again",
        );
    }
    if ends <= now {
        return Check::fail(
            check,
            format!("expired {} days ago", (now - ends) / DAY),
            "issue it again and restart the agent",
        );
    }
    if ends - now < SOON {
        return Check::warn(check, format!("expires in {days} days"), "issue it again and restart the agent");
    }
    Check::ok(check, format!("valid for {days} days"))
}

fn hosts<'a>(certificate: &'a X509Certificate<'_>) -> Vec<&'a str> {
    let extensions = certificate.extensions().iter();
    let names = extensions.flat_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(san) => san.general_names.as_slice(),
        _ => &[],
    });
    names.filter_map(|name| if let GeneralName::URI(uri) = name { uri.strip_prefix(PREFIX) } else { None }).collect()
}

fn private(path: &Path) -> Check {
    match std::fs::metadata(path) {
        Err(error) => Check::fail(
            "key",
            format!("{}: {error}", path.display()),
            "put the file there, readable for the agent alone",
        ),
        Ok(of) if of.permissions().mode() & 0o007 != 0 => Check::fail(
            "key",
            format!("{} is for everybody", path.display()),
            "chmod o= on it, and issue certificate and key again: somebody may have read it",
        ),
        Ok(_) => Check::ok("key", "not for everybody"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict::{self, Fail, Ok as Fine, Warn};
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType, date_time_ymd};

    fn pem(uris: &[&str]) -> Result<String, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            uris.iter().map(|uri| Ok(SanType::URI((*uri).try_into()?))).collect::<Result<_, rcgen::Error>>()?;
        (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2027, 1, 1));
        Ok(params.self_signed(&KeyPair::generate()?)?.pem())
    }

    /// 2026-01-01.
    const BEGIN: i64 = 1_767_225_600;

    fn verdict(uris: &[&str], day: i64, host: Option<&str>) -> Result<Verdict, rcgen::Error> {
        Ok(judge("certificate", pem(uris)?.as_bytes(), BEGIN + day * DAY, Some(host)).verdict)
    }

    #[test]
    fn certificates_are_judged_by_day_and_by_name() -> Result<(), rcgen::Error> {
        let h1 = ["mizar://host/h1"];
        assert_eq!(verdict(&h1, 1, Some("h1"))?, Fine);
        assert_eq!(verdict(&h1, 1, None)?, Fine);
        assert_eq!(verdict(&h1, 340, Some("h1"))?, Warn);
        assert_eq!(verdict(&h1, 366, Some("h1"))?, Fail);
        assert_eq!(verdict(&h1, -1, Some("h1"))?, Fail);
        assert_eq!(verdict(&h1, 1, Some("h2"))?, Fail);
        assert_eq!(verdict(&["mizar://host/h1", "mizar://host/h2"], 1, Some("h1"))?, Fail);
        assert_eq!(verdict(&[], 1, None)?, Fail);
        assert_eq!(judge("authority", pem(&[])?.as_bytes(), BEGIN, None).verdict, Fine);
        assert_eq!(judge("authority", b"no PEM", BEGIN, None).verdict, Fail);
        Ok(())
    }

    #[test]
    fn a_key_that_everybody_reads_fails() -> std::io::Result<()> {
        let path = std::env::temp_dir().join(format!("mz-key-{}", std::process::id()));
        std::fs::write(&path, "key")?;
        let verdict = |mode| {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode))?;
            Ok::<_, std::io::Error>(private(&path).verdict)
        };
        assert_eq!((verdict(0o600)?, verdict(0o640)?, verdict(0o644)?), (Fine, Fine, Fail));
        std::fs::remove_file(&path)?;
        assert_eq!(private(&path).verdict, Fail);
        Ok(())
    }
}
