//! Who is calling: the host that the client's certificate names, by a SAN URI
//! `mizar://host/NAME`. It must be the host in the path, so that a host can neither read nor
//! report for another.

use super::problem::Problem;
use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use actix_web::{FromRequest, HttpRequest, dev::Payload};
use std::any::Any;
use std::future::{Ready, ready};
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};

/// What every host's URI begins with.
const PREFIX: &str = "mizar://host/";

/// What the connection's certificate says.
struct Peer(Option<String>);

/// Called by the server for every new connection, after the handshake.
pub(super) fn remember_peer(connection: &dyn Any, extensions: &mut Extensions) {
    let Some(stream) = connection.downcast_ref::<TlsStream<TcpStream>>() else { return };
    let certificates = stream.get_ref().1.peer_certificates();
    let name = certificates.and_then(<[_]>::first).and_then(|certificate| host_of(certificate));
    extensions.insert(Peer(name));
}

/// The one host that a certificate names.
fn host_of(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let extensions = certificate.extensions().iter();
    let mut names = extensions.flat_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(san) => san.general_names.as_slice(),
        _ => &[],
    });
    let mut hosts = names.by_ref().filter_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix(PREFIX),
        _ => None,
    });
    // Two would leave open which one it is.
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if !host.is_empty() => Some(host.to_owned()),
        _ => None,
    }
}

/// The host in the path, and in the certificate.
pub(super) struct HostName(pub String);

impl FromRequest for HostName {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let asked = request.match_info().get("host").unwrap_or_default();
        ready(match request.conn_data::<Peer>() {
            Some(Peer(Some(name))) if name == asked => Ok(Self(name.clone())),
            Some(Peer(Some(name))) => {
                Err(Problem::forbidden(format!("the certificate is host {name}'s, not {asked}'s")))
            }
            Some(Peer(None)) | None => Err(Problem::forbidden(format!(
                "the certificate names no host: it needs exactly one SAN URI {PREFIX}NAME"
            ))),
        })
    }
}
