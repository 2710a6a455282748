//! The other side of a tap: what a virtual machine monitor does with it.

use super::host::Namespace;
use super::until;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;

/// `struct virtio_net_hdr`; all zeros: nothing is left to be computed or segmented.
const HEADER: [u8; 10] = [0; 10];

/// An open tap.
pub struct Tap(File);

impl Tap {
    /// Opens the tap of this name as QEMU does. It must be there: nobody else is allowed to make it.
    pub fn open(host: &Namespace, ifname: &str) -> Self {
        let ifname = ifname.to_owned();
        let show = format!("ip link show {ifname}");
        host.command(&show);
        let tap = Self(host.run(move || {
            let tun =
                OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun").unwrap();
            // SAFETY: an all-zero ifreq is valid.
            let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
            for (to, from) in request.ifr_name.iter_mut().zip(ifname.bytes()) {
                *to = from as libc::c_char;
            }
            request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
            // SAFETY: the request is an ifreq that outlives the call, as TUNSETIFF wants.
            let done = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF as libc::Ioctl, &raw const request) };
            assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
            tun
        }));
        // It has a carrier now, which the kernel takes note of a little later: what is sent to the
        // guest until then is lost, as on a cable that was just plugged in.
        until("the tap is up", || {
            let link = host.command(&show);
            (link.contains("state UP") && !link.contains("qdisc noop ")).then_some(())
        });
        tap
    }

    /// The guest sends a frame.
    pub fn send(&mut self, frame: &[u8]) {
        self.0.write_all(&[&HEADER, frame].concat()).unwrap();
    }

    /// Reads frames to the guest until one is what the test waits for. One that is not there yet
    /// is waited for.
    pub fn receive<T>(&mut self, what: &str, accept: impl Fn(&[u8]) -> Option<T>) -> T {
        until(what, || {
            let mut bytes = [0; 4096];
            while let Ok(len) = self.0.read(&mut bytes) {
                if let Some(accepted) = accept(&bytes[HEADER.len()..len]) {
                    return Some(accepted);
                }
            }
            None
        })
    }
}
