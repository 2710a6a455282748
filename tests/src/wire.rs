//! The underlay's wire to one host: frames taken from it, and put onto it.

use anyhow::{Context, Result, bail};
use mizar::sandbox::layout::HostPlan;
use mizar::sandbox::netns::Netns;
use mizar::sandbox::{Sandbox, topology};
use mizar_abi::option::{CLASS, Kind, TYPE_SIGNED, at};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd};
use std::time::{Duration, Instant};

const IP: usize = 14;
const IP_DESTINATION: usize = IP + 16;
const IP_SOURCE: usize = IP + 12;
const GENEVE: usize = IP + 20 + 8;
const VNI: usize = GENEVE + 4;
const OPTION: usize = GENEVE + 8;
const BODY: usize = OPTION + 4;
const INNER_IP: usize = BODY + mizar_abi::option::BODY_LEN + 14;

/// Sees every frame to and from a host, and can send it any.
#[derive(Debug)]
pub struct Wire {
    socket: File,
    destination: [u8; 6],
}

impl Wire {
    /// At the switch's end of the host's cable.
    pub fn of(sandbox: &Sandbox, host: &HostPlan) -> Result<Self> {
        let underlay = Netns::named(sandbox.layout().underlay_netns());
        let socket = underlay.enter(|| open(&topology::bridge_end(host)))??;
        Ok(Self { socket, destination: topology::mac(host) })
    }

    /// The next frame to or from the host that fits, by `deadline`.
    pub fn next(&self, deadline: Instant, fits: impl Fn(&Frame) -> bool) -> Result<Frame> {
        let mut buffer = vec![0; 70_000];
        loop {
            match (&self.socket).read(&mut buffer) {
                Ok(length) => {
                    let frame = Frame(buffer[..length].to_vec());
                    if fits(&frame) {
                        return Ok(frame);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left == Duration::ZERO {
                        bail!("no such frame came");
                    }
                    let wait = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
                    poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], wait)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends a frame to the host, as the switch would.
    pub fn send(&self, frame: &Frame) -> Result<()> {
        let mut bytes = frame.0.clone();
        bytes[..6].copy_from_slice(&self.destination);
        (&self.socket).write_all(&bytes).context("the frame could not be sent")
    }
}

fn open(ifname: &str) -> Result<File> {
    const EVERYTHING: u16 = (libc::ETH_P_ALL as u16).to_be();
    let ifname = std::ffi::CString::new(ifname)?;
    // SAFETY: a bare system call on a string that outlives it.
    let index = unsafe { libc::if_nametoindex(ifname.as_ptr()) };
    // SAFETY: a bare system call.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error()).context("no packet socket");
    }
    // SAFETY: `fd` was opened above and belongs to nobody else.
    let socket = unsafe { File::from_raw_fd(fd) };
    // SAFETY: all-zero is a valid address; the fields that matter are set below.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET)?;
    address.sll_protocol = EVERYTHING;
    address.sll_ifindex = i32::try_from(index)?;
    let length = u32::try_from(size_of_val(&address))?;
    // SAFETY: the descriptor is a packet socket's, and the address of its kind with its length.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if bound < 0 {
        return Err(std::io::Error::last_os_error()).with_context(|| format!("cannot look at {ifname:?}"));
    }
    Ok(socket)
}

/// A frame of the underlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(Vec<u8>);

impl Frame {
    fn at<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut bytes = [0; N];
        if let Some(there) = self.0.get(offset..offset + N) {
            bytes.copy_from_slice(there);
        }
        bytes
    }

    /// What a signed packet asks of its receiver; `None` for any other packet.
    pub fn kind(&self) -> Option<Kind> {
        let [c0, c1] = CLASS.to_be_bytes();
        let signed = self.at::<3>(OPTION) == [c0, c1, TYPE_SIGNED] && self.at::<2>(IP + 22) == 6081u16.to_be_bytes();
        signed.then(|| Kind::from_wire(self.0[BODY + at::KIND])).flatten()
    }

    /// Whose it is to accept.
    pub fn receiver(&self) -> Ipv4Addr {
        self.at::<4>(IP_DESTINATION).into()
    }

    /// When it was signed: seconds of UTC.
    pub fn stamp(&self) -> u32 {
        u32::from_be_bytes(self.at(BODY + at::STAMP))
    }

    /// Whether these bytes are in it.
    pub fn carries(&self, text: &[u8]) -> bool {
        self.0.windows(text.len()).any(|window| window == text)
    }

    /// The same to another host.
    pub fn to(&self, host: Ipv4Addr) -> Self {
        self.with(IP_DESTINATION, &host.octets()).summed(IP)
    }

    /// The same from another host.
    pub fn from(&self, host: Ipv4Addr) -> Self {
        self.with(IP_SOURCE, &host.octets()).summed(IP)
    }

    /// The same in another network.
    pub fn in_network(&self, vni: u32) -> Self {
        self.with(VNI, &vni.to_be_bytes()[1..])
    }

    /// The same with another inner destination.
    pub fn for_endpoint(&self, address: Ipv4Addr) -> Self {
        self.with(INNER_IP + 16, &address.octets()).summed(INNER_IP)
    }

    /// The same, signed anew as far as one can who has no key.
    pub fn stamped(&self, stamp: u32) -> Self {
        self.with(BODY + at::STAMP, &stamp.to_be_bytes())
    }

    fn with(&self, offset: usize, bytes: &[u8]) -> Self {
        let mut changed = self.clone();
        changed.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        changed
    }

    /// With the right checksum of the IPv4 header at `offset`.
    fn summed(self, offset: usize) -> Self {
        let header = self.with(offset + 10, &[0, 0]);
        let words = header.0[offset..offset + 20].chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
        let sum: u32 = words.sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let folded = (folded & 0xffff) + (folded >> 16);
        header.with(offset + 10, &(!folded as u16).to_be_bytes())
    }
}
