//! The local socket: attach, detach, status, dump.

use crate::attach::Attacher;
use crate::core::{Shared, chain};
use crate::links::Links;
use crate::status::Observer;
use mizar_wire::local::{Answer, Call};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// Bytes of a call: a path and a few names.
const MAX_CALL: u64 = 64 << 10;

/// Binds the socket, in place of a former agent's.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// What calls are answered with.
#[derive(Clone)]
pub struct Server<L> {
    /// The agent's state.
    pub core: Shared,
    /// Attach and detach.
    pub attacher: Attacher<L>,
    /// Status and dump.
    pub observer: Observer,
}

impl<L: Links> Server<L> {
    /// Serves for ever.
    pub async fn run(self, listener: UnixListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let server = self.clone();
                    tokio::spawn(async move {
                        if let Err(error) = server.serve(stream).await {
                            tracing::debug!(%error, "a caller of the local socket went away");
                        }
                    });
                }
                Err(error) => {
                    // Out of file descriptors: whoever holds them may give some back.
                    tracing::error!(%error, "the local socket takes no call");
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn serve(&self, stream: UnixStream) -> io::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut read = BufReader::new(read);
        let mut line = Vec::new();
        loop {
            line.clear();
            if (&mut read).take(MAX_CALL).read_until(b'\n', &mut line).await? == 0 {
                return Ok(());
            }
            let whole = line.ends_with(b"\n") || (line.len() as u64) < MAX_CALL;
            let answer = match serde_json::from_slice::<Call>(&line) {
                Ok(call) if whole => self.call(call).await,
                Ok(_) => Answer::Error { message: format!("a call has at most {MAX_CALL} bytes") },
                Err(error) => Answer::Error { message: format!("not a call: {error}") },
            };
            let mut text = serde_json::to_vec(&answer)?;
            text.push(b'\n');
            write.write_all(&text).await?;
            if !whole {
                return Ok(());
            }
        }
    }

    async fn call(&self, call: Call) -> Answer {
        match call {
            Call::Attach { port, kind } => match self.attacher.attach(port, kind).await {
                Ok(attached) => Answer::Attached(attached),
                Err(error) => Answer::Error { message: chain(&error) },
            },
            Call::Detach { port } => {
                self.attacher.detach(port).await;
                Answer::Detached
            }
            Call::Status => match self.observer.status(&self.core).await {
                Ok(status) => Answer::Status(status),
                Err(message) => Answer::Error { message },
            },
            Call::Dump => match self.observer.dump(&self.core).await {
                Ok(dump) => Answer::Dump(dump),
                Err(message) => Answer::Error { message },
            },
        }
    }
}
