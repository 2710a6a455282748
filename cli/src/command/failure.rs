//! What went wrong, for people and for scripts: a sentence, what to do, and an exit code by kind.

use crate::client::Refused;
use std::fmt;
use std::process::ExitCode;

/// Exit codes. They are part of the interface: docs/cli.md lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// What has no kind of its own; a failed check of `doctor`.
    Failed = 1,
    /// The command, the configuration or a value is wrong.
    Usage = 2,
    /// There is no such object.
    NotFound = 3,
    /// The role of the caller is not enough.
    Forbidden = 4,
    /// It is in use, exists already, or changed meanwhile.
    Conflict = 5,
    /// The project's quota is used up.
    Quota = 6,
    /// Who calls is not believed.
    Unauthenticated = 7,
    /// The API cannot be reached, or cannot serve at present.
    Unreachable = 8,
    /// `--wait` lasted too long.
    Timeout = 9,
    /// What `--wait` waited for went to ERROR.
    Error = 10,
}

impl Exit {
    /// Every code with its meaning, as the documentation has them.
    pub const ALL: [(Self, &str); 10] = [
        (Self::Failed, "another failure; for `doctor`: a check failed"),
        (Self::Usage, "the command line, the configuration or a value is wrong"),
        (Self::NotFound, "there is no such object, or it is not visible"),
        (Self::Forbidden, "it needs another role"),
        (Self::Conflict, "it is in use, exists already, or changed meanwhile"),
        (Self::Quota, "the project's quota is used up"),
        (Self::Unauthenticated, "user, password, credential or token is not accepted"),
        (Self::Unreachable, "the API cannot be reached, or cannot serve at present: trying again may help"),
        (Self::Timeout, "`--wait` gave up; what was asked for goes on"),
        (Self::Error, "`--wait` saw the object go to ERROR"),
    ];
}

/// A failure of the command line itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its kind.
    pub exit: Exit,
    message: String,
    hint: Option<String>,
}

impl Problem {
    /// Of this kind.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    /// With what to do.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// The kind of a failure.
pub fn exit_of(error: &anyhow::Error) -> Exit {
    if let Some(problem) = error.downcast_ref::<Problem>() {
        return problem.exit;
    }
    if let Some(refused) = error.downcast_ref::<Refused>() {
        return match (refused.status, refused.kind.as_str()) {
            (_, "OverQuota" | "SubnetPoolQuotaExceeded") => Exit::Quota,
            (400 | 405 | 411 | 413 | 415 | 422, _) => Exit::Usage,
            (401, _) => Exit::Unauthenticated,
            (403, _) => Exit::Forbidden,
            (404, _) => Exit::NotFound,
            (409 | 412, _) => Exit::Conflict,
            (429 | 502..=504, _) => Exit::Unreachable,
            _ => Exit::Failed,
        };
    }
    match error.chain().find_map(|cause| cause.downcast_ref::<reqwest::Error>()) {
        Some(failed) if !failed.is_builder() && !failed.is_decode() => Exit::Unreachable,
        _ => Exit::Failed,
    }
}

/// What to do about it, if there is something to say.
fn hint_of(error: &anyhow::Error) -> Option<String> {
    if let Some(problem) = error.downcast_ref::<Problem>() {
        return problem.hint.clone();
    }
    let kind = error.downcast_ref::<Refused>().map_or("", |refused| &refused.kind);
    let hint = match (exit_of(error), kind) {
        (_, "NetworkInUse") => "`mizar port list --network NETWORK` shows what is on it",
        (_, "SubnetInUse") => "`mizar port list --fixed-ip subnet=SUBNET` shows whose addresses are of it",
        (_, "SecurityGroupInUse") => "`mizar port list --security-group GROUP` shows who is in it",
        (_, "RouterInUse") => {
            "`mizar port list --device ROUTER-ID` shows its interfaces, `mizar router remove-interface` takes them off"
        }
        (_, "AddressGroupInUse") => "`mizar security-group-rule list --remote-address-group GROUP` shows what names it",
        (_, "PortInUseAsTrunkParent" | "PortInUseAsSubPort") => "`mizar trunk list --long` shows what trunks carry",
        (Exit::Quota, _) => {
            "`mizar quota show --usage` shows what is used; an administrator raises it by `mizar quota set`"
        }
        (Exit::Unauthenticated, _) => "look at user, password and project of the cloud in clouds.yaml or OS_*",
        (Exit::Forbidden, _) => "another cloud of clouds.yaml may have the role: --os-cloud NAME",
        (Exit::Unreachable, _) => "`mizar doctor --cloud` says which part of the cloud does not answer",
        _ => return None,
    };
    Some(hint.into())
}

/// Writes a failure to standard error and says how to end.
pub fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("{}", describe(error));
    ExitCode::from(exit_of(error) as u8)
}

fn describe(error: &anyhow::Error) -> String {
    // Which call it was matters where the server's own words say nothing about the object.
    let text = match error.downcast_ref::<Refused>() {
        Some(refused) if !refused.message.is_empty() => refused.message.clone(),
        _ => format!("{error:#}"),
    };
    let text = super::render::printable(&text);
    match hint_of(error) {
        Some(hint) => format!("error: {text}\nhint: {hint}"),
        None => format!("error: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    fn refused(status: u16, kind: &str) -> anyhow::Error {
        let refusal = Refused { status, kind: kind.into(), message: "said the server".into() };
        Err::<(), _>(refusal).context("GET /v2.0/ports").context("while listing").expect_err("made as one")
    }

    #[test]
    fn each_kind_of_refusal_has_its_exit_code() {
        for (status, kind, exit) in [
            (400, "InvalidInput", 2),
            (401, "", 7),
            (403, "PolicyNotAuthorized", 4),
            (404, "NetworkNotFound", 3),
            (409, "NetworkInUse", 5),
            (409, "OverQuota", 6),
            (412, "RevisionNumberConstraintFailed", 5),
            (429, "", 8),
            (500, "", 1),
            (503, "", 8),
        ] {
            assert_eq!(exit_of(&refused(status, kind)) as u8, exit, "{status} {kind}");
        }
    }

    #[test]
    fn codes_are_different_and_documented_in_order() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|(exit, _)| *exit as u8).collect();
        assert_eq!(codes, (1..=10).collect::<Vec<u8>>());
    }

    #[test]
    fn a_failure_says_what_to_do() {
        assert_eq!(
            describe(&refused(409, "NetworkInUse")),
            "error: said the server\nhint: `mizar port list --network NETWORK` shows what is on it"
        );
        assert!(describe(&refused(409, "OverQuota")).contains("mizar quota show"));
        let problem = anyhow::Error::from(Problem::new(Exit::Usage, "no cloud").hint("name one")).context("start");
        assert_eq!(
            (exit_of(&problem), describe(&problem).as_str()),
            (Exit::Usage, "error: start: no cloud\nhint: name one")
        );
    }

    #[test]
    fn nobody_who_listens_is_unreachable() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
        let credentials = crate::client::Credentials::new("u", "p", "secret");
        let api = crate::client::Api::new(&format!("http://{nobody}"), credentials).expect("a client");
        let error = api.get("/v2.0/networks").expect_err("nobody listens");
        assert_eq!(exit_of(&error), Exit::Unreachable, "{error:#}");
        assert!(!describe(&error).contains("secret"));
    }
}
