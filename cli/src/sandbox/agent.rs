//! Calls to an agent over its local socket (`mizar_wire::local`).

use anyhow::{Context, Result, bail};
use mizar_wire::local::{Answer, AttachKind, Attached, Call, Status};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;

/// An agent, by its socket.
#[derive(Clone, Debug)]
pub struct Agent {
    socket: PathBuf,
}

impl Agent {
    /// The agent that listens at `socket`.
    pub fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// One call, one answer.
    pub fn call(&self, call: &Call) -> Result<Answer> {
        exchange(&self.socket, call).with_context(|| format!("agent at {}", self.socket.display()))
    }

    /// Makes and wires the port's interface.
    pub fn attach(&self, port: Uuid, kind: AttachKind) -> Result<Attached> {
        match self.call(&Call::Attach { port, kind })? {
            Answer::Attached(attached) => Ok(attached),
            other => refused(other),
        }
    }

    /// Removes the port's interface.
    pub fn detach(&self, port: Uuid) -> Result<()> {
        match self.call(&Call::Detach { port })? {
            Answer::Detached => Ok(()),
            other => refused(other),
        }
    }

    /// What the agent holds.
    pub fn status(&self) -> Result<Status> {
        match self.call(&Call::Status)? {
            Answer::Status(status) => Ok(status),
            other => refused(other),
        }
    }

    /// Everything desired, and everything in the maps.
    pub fn dump(&self) -> Result<serde_json::Value> {
        match self.call(&Call::Dump)? {
            Answer::Dump(dump) => Ok(dump),
            other => refused(other),
        }
    }
}

fn refused<T>(answer: Answer) -> Result<T> {
    match answer {
        Answer::Error { message } => bail!(message),
        other => bail!("answer does not fit the call: {other:?}"),
    }
}

fn exchange(socket: &Path, call: &Call) -> Result<Answer> {
    let mut stream = UnixStream::connect(socket).context("cannot connect")?;
    // An attach waits up to 10 s for the port's entry before it says so.
    stream.set_read_timeout(Some(Duration::from_secs(90)))?;
    let mut line = serde_json::to_vec(call)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).context("no answer")?;
    serde_json::from_str(&answer).with_context(|| format!("answer not understood: {}", answer.trim()))
}
