//! [`Links`] of the kernel, by netlink.

use super::describe::{check_ifname, check_netns, host_ifname, parse_alias, write_alias};
use super::netns::{Visitor, open_netns};
use super::{Interface, LinkError, Links, Made, Survey, tap};
use futures::{StreamExt as _, TryStreamExt as _};
use mizar_plan::{Endpoint, EndpointRoute};
use mizar_wire::local::AttachKind;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage, link::LinkFlags};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, MulticastGroup, RouteMessageBuilder};
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd as _;
use tokio::sync::mpsc;
use uuid::Uuid;

/// Link group of every interface of ours ("miza").
pub const GROUP: u32 = 0x6d69_7a61;

/// Netlink in the agent's own namespace, and the way into others.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: Handle,
    visitor: Visitor,
}

/// An interface that the agent does not own: the uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Its index.
    pub ifindex: u32,
    /// Its MTU.
    pub mtu: u32,
    /// Its first IPv4 address.
    pub address: Ipv4Addr,
    /// Whether it is one end of a veth.
    pub is_veth: bool,
}

fn io_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}

/// What was tried, and why it failed.
fn failed(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> LinkError {
    let what = what.into();
    move |error| LinkError::Kernel { what, source: io_error(error) }
}

/// An error of one of these numbers is no failure.
fn unless(result: Result<(), rtnetlink::Error>, fine: &[i32]) -> Result<(), rtnetlink::Error> {
    match result {
        Err(rtnetlink::Error::NetlinkError(m)) if fine.contains(&m.to_io().raw_os_error().unwrap_or(0)) => Ok(()),
        other => other,
    }
}

impl Netlink {
    /// Opens netlink in the namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Self { handle, visitor: Visitor::start()? })
    }

    /// Indexes of interfaces that vanish, as they do.
    pub fn vanished() -> io::Result<mpsc::UnboundedReceiver<u32>> {
        let (connection, _, mut messages) = rtnetlink::new_multicast_connection(&[MulticastGroup::Link])?;
        let (indexes, receiver) = mpsc::unbounded_channel();
        tokio::spawn(connection);
        tokio::spawn(async move {
            while let Some((message, _)) = messages.next().await {
                // Other families tell of a bridge's or IPv6's part in it.
                if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) = message.payload
                    && link.header.interface_family == AddressFamily::Unspec
                    && indexes.send(link.header.index).is_err()
                {
                    break;
                }
            }
        });
        Ok(receiver)
    }

    /// Looks at the uplink.
    pub async fn uplink(&self, ifname: &str) -> Result<Uplink, LinkError> {
        let link = by_name(&self.handle, ifname).await?;
        let Some(link) = link else { return Err(LinkError::Refused(format!("there is no interface {ifname}"))) };
        let ifindex = link.header.index;
        let mut addresses = self.handle.address().get().set_link_index_filter(ifindex).execute();
        let mut address = None;
        while let Some(message) = addresses.try_next().await.map_err(failed(format!("addresses of {ifname}")))? {
            use netlink_packet_route::address::AddressAttribute;
            for attribute in message.attributes {
                if let AddressAttribute::Local(IpAddr::V4(v4)) = attribute {
                    address = address.or(Some(v4));
                }
            }
        }
        let address = address.ok_or_else(|| LinkError::Refused(format!("interface {ifname} has no IPv4 address")))?;
        let mtu = link.attributes.iter().find_map(|a| match a {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        });
        Ok(Uplink { ifindex, mtu: mtu.unwrap_or(0), address, is_veth: kind_of(&link) == Some(InfoKind::Veth) })
    }

    async fn make_veth(&self, ifname: &str, inner: &str, netns: Option<&File>) -> Result<(), LinkError> {
        let mut peer = LinkMessageBuilder::<LinkUnspec>::new().name(inner);
        if let Some(netns) = netns {
            peer = peer.setns_by_fd(netns.as_raw_fd());
        }
        let veth = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Veth)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())))
            .name(ifname)
            .link_group(GROUP);
        self.handle.link().add(veth.build()).execute().await.map_err(|error| {
            let source = io_error(error);
            if source.raw_os_error() == Some(libc::EEXIST) {
                return LinkError::Refused(format!("ifname: there is an interface {inner} already"));
            }
            LinkError::Kernel { what: format!("making the veth {ifname} with {inner}"), source }
        })
    }

    /// The host's end must not talk by itself: without this it would send router solicitations
    /// to the endpoint. A kernel without IPv6 refuses, and needs it not.
    async fn silence(&self, ifindex: u32) {
        let quiet = vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)])];
        let message =
            LinkUnspec::new_with_index(ifindex).append_extra_attribute(LinkAttribute::AfSpecUnspec(quiet)).build();
        if let Err(error) = self.handle.link().set(message).execute().await {
            tracing::debug!(ifindex, error = %io_error(error), "IPv6 addresses of an interface could not be turned off");
        }
    }
}

fn kind_of(link: &LinkMessage) -> Option<InfoKind> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.iter().find_map(|info| match info {
            LinkInfo::Kind(kind) => Some(kind.clone()),
            _ => None,
        }),
        _ => None,
    })
}

fn group_of(link: &LinkMessage) -> u32 {
    link.attributes.iter().find_map(|a| if let LinkAttribute::Group(g) = a { Some(*g) } else { None }).unwrap_or(0)
}

async fn by_name(handle: &Handle, ifname: &str) -> Result<Option<LinkMessage>, LinkError> {
    let mut links = handle.link().get().match_name(ifname).execute();
    match links.try_next().await.map_err(io_error) {
        Ok(link) => Ok(link),
        Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(source) => Err(LinkError::Kernel { what: format!("looking up interface {ifname}"), source }),
    }
}

async fn index_of(handle: &Handle, ifname: &str) -> Result<u32, LinkError> {
    let link = by_name(handle, ifname).await?;
    let link = link.ok_or_else(|| LinkError::Refused(format!("there is no interface {ifname}")))?;
    Ok(link.header.index)
}

impl Links for Netlink {
    async fn survey(&self) -> Result<Survey, LinkError> {
        let mut survey = Survey::default();
        let mut links = self.handle.link().get().execute();
        while let Some(link) = links.try_next().await.map_err(failed("listing interfaces"))? {
            if group_of(&link) != GROUP {
                continue;
            }
            let (mut ifname, mut alias, mut inner, mut elsewhere) = (String::new(), None, 0, false);
            for attribute in &link.attributes {
                match attribute {
                    LinkAttribute::IfName(name) => ifname.clone_from(name),
                    LinkAttribute::IfAlias(text) => alias = parse_alias(text),
                    LinkAttribute::Link(index) => inner = *index,
                    LinkAttribute::LinkNetNsId(_) => elsewhere = true,
                    _ => {}
                }
            }
            let made = Made { ifname, ifindex: link.header.index, inner_ifindex: if elsewhere { 0 } else { inner } };
            match alias {
                Some((port, kind)) => survey.whole.push(Interface { port, kind, made }),
                None => survey.half.push(made),
            }
        }
        Ok(survey)
    }

    async fn make(&self, port: Uuid, kind: &AttachKind) -> Result<Made, LinkError> {
        write_alias(port, kind).map_err(LinkError::Refused)?;
        let ifname = host_ifname(port);
        if let Some(old) = by_name(&self.handle, &ifname).await? {
            if group_of(&old) != GROUP {
                return Err(LinkError::Refused(format!("there is an interface {ifname} that is not the agent's")));
            }
            let made = Made { ifname: ifname.clone(), ifindex: old.header.index, inner_ifindex: 0 };
            self.remove(&made).await?;
        }
        let mut inner_ifindex = 0;
        match kind {
            AttachKind::Container { netns, ifname: inner } => {
                check_ifname(inner).map_err(LinkError::Refused)?;
                check_netns(netns).map_err(LinkError::Refused)?;
                let file = open_netns(netns)?;
                self.make_veth(&ifname, inner, Some(&file)).await?;
            }
            AttachKind::Host { ifname: inner } => {
                check_ifname(inner).map_err(LinkError::Refused)?;
                self.make_veth(&ifname, inner, None).await?;
                inner_ifindex = index_of(&self.handle, inner).await?;
            }
            AttachKind::Tap => {
                tap::make(&ifname).map_err(LinkError::kernel(format!("making the tap {ifname}")))?;
                let message = LinkUnspec::new_with_name(&ifname).link_group(GROUP).build();
                self.handle.link().set(message).execute().await.map_err(failed(format!("marking {ifname}")))?;
            }
        }
        let ifindex = index_of(&self.handle, &ifname).await?;
        self.silence(ifindex).await;
        Ok(Made { ifname, ifindex, inner_ifindex })
    }

    async fn configure(&self, interface: &Interface, endpoint: &Endpoint) -> Result<(), LinkError> {
        let made = &interface.made;
        let outer = LinkUnspec::new_with_index(made.ifindex).mtu(endpoint.mtu).up().build();
        self.handle.link().set(outer).execute().await.map_err(failed(format!("bringing up {}", made.ifname)))?;
        match &interface.kind {
            AttachKind::Tap => Ok(()),
            AttachKind::Container { netns, ifname } => {
                let inside = self.visitor.connect(netns).await?;
                raise_loopback(&inside).await?;
                configure_inner(&inside, ifname, endpoint).await?;
                let everything =
                    |gateway: &IpAddr| EndpointRoute { destination: default_route(gateway), nexthop: *gateway };
                let routes = endpoint.gateway.iter().map(everything).chain(endpoint.routes.iter().cloned());
                add_routes(&inside, ifname, routes).await
            }
            // The host keeps its own default route.
            AttachKind::Host { ifname } => {
                configure_inner(&self.handle, ifname, endpoint).await?;
                let routes = endpoint.siblings.iter().chain(&endpoint.routes).cloned();
                add_routes(&self.handle, ifname, routes).await
            }
        }
    }

    async fn finish(&self, interface: &Interface) -> Result<(), LinkError> {
        let alias = write_alias(interface.port, &interface.kind).map_err(LinkError::Refused)?;
        let message = LinkUnspec::new_with_index(interface.made.ifindex).alias(alias).build();
        let ifname = &interface.made.ifname;
        self.handle.link().set(message).execute().await.map_err(failed(format!("marking {ifname}")))
    }

    async fn is_sound(&self, interface: &Interface) -> bool {
        let made = &interface.made;
        let outer = by_name(&self.handle, &made.ifname).await;
        if !matches!(outer, Ok(Some(link)) if link.header.index == made.ifindex && group_of(&link) == GROUP) {
            return false;
        }
        let AttachKind::Container { netns, ifname } = &interface.kind else { return true };
        let Ok(inside) = self.visitor.connect(netns).await else { return false };
        let peer = LinkAttribute::Link(made.ifindex);
        matches!(by_name(&inside, ifname).await, Ok(Some(link)) if link.attributes.contains(&peer))
    }

    async fn remove(&self, made: &Made) -> Result<(), LinkError> {
        // By index, and only if it is still ours: indexes are not reused soon, but names are.
        let mut links = self.handle.link().get().match_index(made.ifindex).execute();
        match links.try_next().await.map_err(io_error) {
            Ok(Some(link)) if group_of(&link) == GROUP => {}
            Ok(_) => return Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
            Err(source) => return Err(LinkError::Kernel { what: format!("looking up {}", made.ifname), source }),
        }
        let removed = self.handle.link().del(made.ifindex).execute().await;
        unless(removed, &[libc::ENODEV]).map_err(failed(format!("removing {}", made.ifname)))
    }
}

fn default_route(gateway: &IpAddr) -> ipnet::IpNet {
    match gateway {
        IpAddr::V4(_) => ipnet::Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => ipnet::Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

async fn raise_loopback(inside: &Handle) -> Result<(), LinkError> {
    let up = LinkUnspec::new_with_name("lo").up().build();
    inside.link().set(up).execute().await.map_err(failed("bringing up lo"))
}

/// MAC (which a veth takes only while it is down, or not at all on some kernels), MTU,
/// addresses, up.
async fn configure_inner(handle: &Handle, ifname: &str, endpoint: &Endpoint) -> Result<(), LinkError> {
    let link = by_name(handle, ifname).await?;
    let link = link.ok_or_else(|| LinkError::Refused(format!("ifname: {ifname} is not in the namespace any more")))?;
    let index = link.header.index;
    let is_up = link.header.flags.contains(LinkFlags::Up);
    let mac = endpoint.mac.to_vec();
    let same_mac = link.attributes.contains(&LinkAttribute::Address(mac.clone()));
    let mut message = LinkUnspec::new_with_index(index).mtu(endpoint.mtu);
    if !same_mac {
        if is_up {
            let down = LinkUnspec::new_with_index(index).down().build();
            handle.link().set(down).execute().await.map_err(failed(format!("taking down {ifname}")))?;
        }
        message = message.address(mac);
    }
    handle.link().set(message.build()).execute().await.map_err(failed(format!("setting MAC and MTU of {ifname}")))?;
    for address in &endpoint.addresses {
        let add = handle.address().add(index, address.addr(), address.prefix_len()).execute().await;
        unless(add, &[libc::EEXIST]).map_err(failed(format!("adding {address} to {ifname}")))?;
    }
    let up = LinkUnspec::new_with_index(index).up().build();
    handle.link().set(up).execute().await.map_err(failed(format!("bringing up {ifname}")))
}

async fn add_routes(
    handle: &Handle,
    ifname: &str,
    routes: impl Iterator<Item = EndpointRoute>,
) -> Result<(), LinkError> {
    let index = index_of(handle, ifname).await?;
    for route in routes {
        let what = format!("adding the route to {} through {} by {ifname}", route.destination, route.nexthop);
        let message = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(route.destination.network(), route.destination.prefix_len())
            .and_then(|m| m.output_interface(index).onlink().gateway(route.nexthop))
            .map_err(|e| LinkError::Refused(format!("{what}: {e}")))?
            .build();
        handle.route().add(message).replace().execute().await.map_err(failed(what))?;
    }
    Ok(())
}
