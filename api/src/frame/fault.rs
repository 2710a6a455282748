//! From errors to answers: one table of status and Neutron type.
//!
//! Everything below the API fails with typed errors; here, and nowhere else, they become HTTP.
//! Clients branch on the type, people read the message. A failure that is ours (5xx) is logged
//! with its whole chain and told to the client without it.

use crate::identity::password::PasswordError;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpResponse, ResponseError};
use mizar_db::pool::{Conflict, PoolError, is_consequence, is_disconnect, is_lock_timeout};
use mizar_db::resources::Failure;
use mizar_domain::ipam::IpamError;
use mizar_domain::network::{DeleteNetworkError, NetworkError};
use mizar_domain::pool::PoolError as RangeError;
use mizar_domain::port::PortError;
use mizar_domain::port_binding::BindingError;
use mizar_domain::qos::RuleConflict;
use mizar_domain::security_group::RuleError;
use mizar_domain::subnet::{DeleteSubnetError, SubnetError};
use mizar_domain::subnet_pool::SubnetPoolError;
use serde_json::json;
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// The two forms of error bodies: the network service's and the identity service's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `{"NeutronError": {"type", "message", "detail"}}`.
    Neutron,
    /// `{"error": {"code", "title", "message"}}`.
    Keystone,
}

/// An answer that is not what was asked for.
#[derive(Debug)]
pub struct Fault {
    status: StatusCode,
    form: Form,
    kind: &'static str,
    message: String,
    cause: Option<Box<dyn Error + Send + Sync>>,
    /// Seconds after which trying again may help.
    retry_after_s: Option<u64>,
}

impl Fault {
    fn neutron(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, form: Form::Neutron, kind, message: message.into(), cause: None, retry_after_s: None }
    }

    /// The request is not understood: body, attribute, query.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::neutron(StatusCode::BAD_REQUEST, "HTTPBadRequest", message)
    }

    /// A value of the query is not possible.
    pub fn bad_query(message: impl Into<String>) -> Self {
        Self::neutron(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// An attribute's value is not possible.
    pub fn invalid(attribute: &str, reason: impl fmt::Display) -> Self {
        Self::bad_request(format!("Invalid input for {attribute}. Reason: {reason}"))
    }

    /// A value is possible in itself, but not here.
    pub fn invalid_input(message: impl fmt::Display) -> Self {
        Self::neutron(StatusCode::BAD_REQUEST, "InvalidInput", format!("Invalid input for operation: {message}."))
    }

    /// Not there or not visible.
    pub fn not_found(kind: &'static str, message: impl Into<String>) -> Self {
        Self::neutron(StatusCode::NOT_FOUND, kind, message)
    }

    /// Visible, but not allowed.
    pub fn forbidden(rule: impl fmt::Display) -> Self {
        let message = format!("(rule:{rule}) is disallowed by policy");
        Self::neutron(StatusCode::FORBIDDEN, "PolicyNotAuthorized", message)
    }

    /// It conflicts with what there is.
    pub fn conflict(kind: &'static str, message: impl Into<String>) -> Self {
        Self::neutron(StatusCode::CONFLICT, kind, message)
    }

    /// The project has as many of these as it may have.
    pub fn over_quota(resources: &[String]) -> Self {
        let names: Vec<String> = resources.iter().map(|name| format!("'{name}'")).collect();
        Self::conflict("OverQuota", format!("Quota exceeded for resources: [{}].", names.join(", ")))
    }

    /// A refusal with a type of its own.
    pub fn refused(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self::neutron(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST), kind, message)
    }

    /// `If-Match` named another revision.
    pub fn stale(given: i64) -> Self {
        let message = format!("Constrained to {given}, but current revision is different.");
        Self::neutron(StatusCode::PRECONDITION_FAILED, "RevisionNumberConstraintFailed", message)
    }

    /// The path takes no such method.
    pub fn method_not_allowed() -> Self {
        let message = "The method is not allowed for this resource.";
        Self::neutron(StatusCode::METHOD_NOT_ALLOWED, "HTTPMethodNotAllowed", message)
    }

    /// There is nothing at this path.
    pub fn no_such_path() -> Self {
        Self::neutron(StatusCode::NOT_FOUND, "HTTPNotFound", "The resource could not be found.")
    }

    /// The body is larger than anyone needs.
    pub fn too_large(limit: usize) -> Self {
        let message = format!("The request body is larger than {limit} bytes.");
        Self::neutron(StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLarge", message)
    }

    /// Somebody should look at the log.
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let message = "Request Failed: internal server error while processing your request.";
        let fault = Self::neutron(StatusCode::INTERNAL_SERVER_ERROR, "HTTPInternalServerError", message);
        Self { cause: Some(cause.into()), ..fault }
    }

    /// Trying again later may help.
    pub fn unavailable(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let message = "The service is overloaded or its database is away; try again.";
        let fault = Self::neutron(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message);
        Self { cause: Some(cause.into()), retry_after_s: Some(1), ..fault }
    }

    /// The caller asks too often.
    pub fn too_many(wait: Duration) -> Self {
        let message = "Too many requests; try again later.";
        let fault = Self::neutron(StatusCode::TOO_MANY_REQUESTS, "OverLimit", message);
        Self { retry_after_s: Some(wait.as_secs() + 1), ..fault }
    }

    /// No token, or none that counts. In Keystone's form, on every path.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::identity(StatusCode::UNAUTHORIZED, message)
    }

    /// An error of the identity service.
    pub fn identity(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, form: Form::Keystone, kind: "", message: message.into(), cause: None, retry_after_s: None }
    }

    /// The same error in the identity service's form.
    #[must_use]
    pub fn of_identity(self) -> Self {
        Self { form: Form::Keystone, ..self }
    }

    /// Its HTTP status.
    pub const fn status(&self) -> StatusCode {
        self.status
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}

impl ResponseError for Fault {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        if let Some(cause) = &self.cause {
            tracing::error!(status = self.status.as_u16(), error = %Chain(cause.as_ref()), "request failed");
        }
        let mut response = HttpResponse::build(self.status);
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, "Keystone uri=\"/v3\""));
        }
        if let Some(seconds) = self.retry_after_s {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        match self.form {
            Form::Neutron => response.json(json!({
                "NeutronError": {"type": self.kind, "message": self.message, "detail": ""}
            })),
            Form::Keystone => response.json(json!({
                "error": {
                    "code": self.status.as_u16(),
                    "title": self.status.canonical_reason().unwrap_or("Error"),
                    "message": self.message,
                }
            })),
        }
    }
}

/// An error with everything that caused it, in one line.
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}

/// Status and type of what the domain refuses.
trait Refusal: fmt::Display {
    fn class(&self) -> (StatusCode, &'static str);
}

impl Refusal for NetworkError {
    fn class(&self) -> (StatusCode, &'static str) {
        match self {
            Self::MtuTooLarge { .. } | Self::MtuTooSmall(_) | Self::DefaultNotExternal => {
                (StatusCode::BAD_REQUEST, "InvalidInput")
            }
            Self::NoSuchZone(_) => (StatusCode::NOT_FOUND, "AvailabilityZoneNotFound"),
            Self::DefaultExists(_) => (StatusCode::CONFLICT, "DefaultExternalNetworkExists"),
            Self::VniInUse(_) => (StatusCode::CONFLICT, "TunnelIdInUse"),
            Self::NoVniFree => (StatusCode::SERVICE_UNAVAILABLE, "NoNetworkAvailable"),
            Self::SharedInUse(_) => (StatusCode::CONFLICT, "InvalidSharedSetting"),
            Self::ExternalInUse(_) => (StatusCode::CONFLICT, "ExternalNetworkInUse"),
            Self::HostTooSmall(_) => (StatusCode::CONFLICT, "MtuInUse"),
        }
    }
}

impl Refusal for DeleteNetworkError {
    fn class(&self) -> (StatusCode, &'static str) {
        match self {
            Self::HasPorts { .. } => (StatusCode::CONFLICT, "NetworkInUse"),
        }
    }
}

impl Refusal for SubnetError {
    fn class(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Overlap { .. } | Self::BadGateway { .. } | Self::NoRoomForDhcp => {
                (StatusCode::BAD_REQUEST, "InvalidInput")
            }
            Self::PoolAffinity => (StatusCode::BAD_REQUEST, "NetworkSubnetPoolAffinityError"),
            Self::GatewayInUse { .. } => (StatusCode::CONFLICT, "GatewayIpInUse"),
            Self::Pool(RangeError::Reversed(_)) => (StatusCode::BAD_REQUEST, "InvalidAllocationPool"),
            Self::Pool(RangeError::OutOfBounds { .. }) => (StatusCode::BAD_REQUEST, "OutOfBoundsAllocationPool"),
            Self::Pool(RangeError::Overlap { .. }) => (StatusCode::CONFLICT, "OverlappingAllocationPools"),
            Self::Pool(RangeError::HoldsGateway { .. }) => (StatusCode::CONFLICT, "GatewayConflictWithAllocationPools"),
            Self::TooManyNameservers(_) => (StatusCode::BAD_REQUEST, "DNSNameServersExhausted"),
            Self::TooManyRoutes(_) => (StatusCode::BAD_REQUEST, "HostRoutesExhausted"),
            Self::DuplicateNameserver(_) | Self::DuplicateRoute(_) => (StatusCode::BAD_REQUEST, "HTTPBadRequest"),
        }
    }
}

impl Refusal for SubnetPoolError {
    fn class(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Empty => (StatusCode::BAD_REQUEST, "EmptySubnetPoolPrefixList"),
            Self::Mixed => (StatusCode::BAD_REQUEST, "PrefixVersionMismatch"),
            Self::Bounds { .. } => (StatusCode::BAD_REQUEST, "IllegalSubnetPoolPrefixBounds"),
            Self::Shrinks | Self::InUse => (StatusCode::BAD_REQUEST, "IllegalSubnetPoolPrefixUpdate"),
            Self::TooLarge { .. } => (StatusCode::BAD_REQUEST, "MinPrefixSubnetAllocationError"),
            Self::TooSmall { .. } => (StatusCode::BAD_REQUEST, "MaxPrefixSubnetAllocationError"),
            Self::Quota => (StatusCode::CONFLICT, "SubnetPoolQuotaExceeded"),
            Self::Full(_) | Self::Unavailable => (StatusCode::CONFLICT, "SubnetAllocationError"),
        }
    }
}

impl Refusal for DeleteSubnetError {
    fn class(&self) -> (StatusCode, &'static str) {
        match self {
            Self::InUse(_) => (StatusCode::CONFLICT, "SubnetInUse"),
        }
    }
}

impl Refusal for PortError {
    fn class(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Ipam(error) => match error {
                IpamError::TooMany | IpamError::Empty | IpamError::Duplicate(_) | IpamError::ForeignSubnet { .. } => {
                    (StatusCode::BAD_REQUEST, "InvalidInput")
                }
                IpamError::NotInSubnet(_) => (StatusCode::BAD_REQUEST, "InvalidIpForSubnet"),
                IpamError::NotInNetwork(_) => (StatusCode::BAD_REQUEST, "InvalidIpForNetwork"),
                IpamError::InUse { .. } => (StatusCode::CONFLICT, "IpAddressInUse"),
                IpamError::NoServiceSubnet { .. } => {
                    (StatusCode::CONFLICT, "IpAddressGenerationFailureNoMatchingSubnet")
                }
                IpamError::Exhausted(_) => (StatusCode::CONFLICT, "IpAddressGenerationFailure"),
            },
            Self::MacInUse { .. } => (StatusCode::CONFLICT, "MacAddressInUse"),
            Self::BadMac(_) => (StatusCode::BAD_REQUEST, "HTTPBadRequest"),
            Self::MacOfBoundPort(_) => (StatusCode::CONFLICT, "PortBound"),
            Self::TooManyPairs => (StatusCode::BAD_REQUEST, "AllowedAddressPairExhausted"),
            Self::DuplicatePair { .. } => (StatusCode::BAD_REQUEST, "DuplicateAddressPairInRequest"),
            Self::PairsWithoutSecurity => (StatusCode::CONFLICT, "AddressPairAndPortSecurityRequired"),
            Self::NoSuchGroup(_) => (StatusCode::NOT_FOUND, "SecurityGroupNotFound"),
            Self::GroupsWithoutSecurity => (StatusCode::BAD_REQUEST, "PortSecurityAndIPRequiredForSecurityGroups"),
            Self::SecurityOfGroups => (StatusCode::CONFLICT, "PortSecurityPortHasSecurityGroup"),
        }
    }
}

impl Refusal for BindingError {
    fn class(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NotCompute(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
            Self::Exists { .. } => (StatusCode::CONFLICT, "PortBindingAlreadyExists"),
            Self::AlreadyActive { .. } => (StatusCode::CONFLICT, "PortBindingAlreadyActive"),
            // Neutron answers 500; but it is the host that is asked for, not the service that is at fault.
            Self::Impossible { .. } => (StatusCode::CONFLICT, "PortBindingError"),
        }
    }
}

impl Refusal for RuleError {
    fn class(&self) -> (StatusCode, &'static str) {
        let kind = match self {
            Self::Protocol(_) => "SecurityGroupRuleInvalidProtocol",
            Self::Ethertype(_) => "SecurityGroupRuleInvalidEtherType",
            Self::EthertypeOfProtocol { .. } => "SecurityGroupEthertypeConflictWithProtocol",
            Self::EthertypeOfPrefix { .. } => "SecurityGroupRuleParameterConflict",
            Self::Prefix(_) => "InvalidCIDR",
            Self::PortsWithoutProtocol => "SecurityGroupProtocolRequiredWithPorts",
            Self::PortsOfProtocol(_) => "SecurityGroupInvalidProtocolForPort",
            Self::Port(_) => "SecurityGroupInvalidPortValue",
            Self::PortRange => "SecurityGroupInvalidPortRange",
            Self::Icmp { .. } => "SecurityGroupInvalidIcmpValue",
            Self::IcmpCodeAlone(_) => "SecurityGroupMissingIcmpType",
            Self::Remotes => "SecurityGroupMultipleRemoteEntites",
        };
        (StatusCode::BAD_REQUEST, kind)
    }
}

impl Refusal for RuleConflict {
    fn class(&self) -> (StatusCode, &'static str) {
        let kind = match self {
            Self::Again { .. } => "QoSRulesConflict",
            Self::Contradiction { .. } => "QoSRuleParameterConflict",
        };
        (StatusCode::CONFLICT, kind)
    }
}

impl<R: Refusal> From<R> for Fault {
    fn from(refusal: R) -> Self {
        let (status, kind) = refusal.class();
        Self::neutron(status, kind, refusal.to_string())
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotFound { kind, .. } => {
                use mizar_db::resources::ObjectKind;
                let neutron = match kind {
                    ObjectKind::Network => "NetworkNotFound",
                    ObjectKind::Subnet => "SubnetNotFound",
                    ObjectKind::Port => "PortNotFound",
                    ObjectKind::Host => "HostNotFound",
                    ObjectKind::SecurityGroupRule => "SecurityGroupRuleNotFound",
                    ObjectKind::AddressGroup => "AddressGroupNotFound",
                    ObjectKind::LabelPolicy => "LabelPolicyNotFound",
                };
                Self::not_found(neutron, failure.to_string())
            }
            Failure::Forbidden(rule) => Self::forbidden(rule),
            Failure::Network(refusal) => refusal.into(),
            Failure::DeleteNetwork(refusal) => refusal.into(),
            Failure::Subnet(refusal) => refusal.into(),
            Failure::DeleteSubnet(refusal) => refusal.into(),
            Failure::Port(refusal) => refusal.into(),
            Failure::Binding(refusal) => refusal.into(),
            Failure::TooManyLabels(_) | Failure::TooLongManifests(_) => {
                Self::conflict("OverQuota", failure.to_string())
            }
            Failure::Contended => Self::unavailable(failure),
            Failure::Corrupt { .. } => Self::internal(failure),
            Failure::Pool(error) => error.into(),
            Failure::Database(error) => error.into(),
        }
    }
}

impl From<PoolError> for Fault {
    fn from(error: PoolError) -> Self {
        Self::unavailable(error)
    }
}

impl From<PasswordError> for Fault {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self::unavailable(error).of_identity(),
            PasswordError::Crowded => Self::too_many(Duration::from_secs(1)).of_identity(),
            PasswordError::Hash(_) | PasswordError::Interrupted => Self::internal(error).of_identity(),
        }
    }
}

impl From<diesel::result::Error> for Fault {
    fn from(error: diesel::result::Error) -> Self {
        // What fails only because something failed before is run again, but is no fault of the load.
        let is_of_load = is_lock_timeout(&error) || is_disconnect(&error) || error.is_conflict();
        if is_of_load && !is_consequence(&error) { Self::unavailable(error) } else { Self::internal(error) }
    }
}

/// A transaction ran into another: the frame runs it again before anybody hears of it.
impl Conflict for Fault {
    fn is_conflict(&self) -> bool {
        let cause = self.cause.as_deref().and_then(|cause| cause.downcast_ref::<diesel::result::Error>());
        cause.is_some_and(Conflict::is_conflict)
    }
}
