//! Netlink sockets inside other network namespaces.
//!
//! A socket belongs for ever to the namespace its thread was in when it was opened. So one thread
//! of its own enters the namespace, opens the socket and leaves again; everything else happens
//! anywhere. No other thread ever changes its namespace.

use super::LinkError;
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::mpsc;
use tokio::runtime;
use tokio::sync::oneshot;

struct Visit {
    netns: File,
    runtime: runtime::Handle,
    reply: oneshot::Sender<io::Result<rtnetlink::Handle>>,
}

/// The thread that visits namespaces.
#[derive(Clone, Debug)]
pub struct Visitor(mpsc::Sender<Visit>);

impl Visitor {
    /// Starts the thread; it ends with the last clone of this.
    pub fn start() -> io::Result<Self> {
        // Of the calling thread, which the new one inherits; `self` would be the process's first.
        let home = File::open("/proc/thread-self/ns/net")?;
        let (visits, inbox) = mpsc::channel::<Visit>();
        std::thread::Builder::new().name("netns".to_owned()).stack_size(128 << 10).spawn(move || {
            for visit in inbox {
                let opened = setns(&visit.netns, CloneFlags::CLONE_NEWNET)
                    .map_err(io::Error::from)
                    .and_then(|()| open(&visit.runtime));
                if let Err(error) = setns(&home, CloneFlags::CLONE_NEWNET) {
                    // Stranded in a tenant's namespace this thread must not serve the next visit.
                    tracing::error!(%error, "the way back from a namespace is closed");
                    return;
                }
                // Who asked may have given up.
                let _ = visit.reply.send(opened);
            }
        })?;
        Ok(Self(visits))
    }

    /// A netlink connection inside the namespace at `path`.
    pub async fn connect(&self, path: &str) -> Result<rtnetlink::Handle, LinkError> {
        let what = || format!("entering namespace {path}");
        let netns = open_netns(path)?;
        let (reply, answer) = oneshot::channel();
        let stopped = || LinkError::Kernel { what: what(), source: io::Error::other("the namespace thread has ended") };
        self.0.send(Visit { netns, runtime: runtime::Handle::current(), reply }).map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?.map_err(LinkError::kernel(what()))
    }
}

/// Opens a network namespace that a caller named. Anything else is refused, without waiting: a
/// pipe that has no writer would keep the whole agent for as long.
pub fn open_netns(path: &str) -> Result<File, LinkError> {
    let opening = || format!("netns: opening {path}");
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(LinkError::kernel(opening()))?;
    let kind = fstatfs(&file).map_err(io::Error::from).map_err(LinkError::kernel(opening()))?.filesystem_type();
    if kind != NSFS_MAGIC {
        return Err(LinkError::Refused(format!("netns: {path} is no network namespace")));
    }
    Ok(file)
}

fn open(runtime: &runtime::Handle) -> io::Result<rtnetlink::Handle> {
    let _context = runtime.enter();
    let (connection, handle, _) = rtnetlink::new_connection()?;
    runtime.spawn(connection);
    Ok(handle)
}
