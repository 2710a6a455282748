//! TCP_CRR: connect, a byte there, a byte back, close. As netperf's of that name, but by several clients
//! at once: what is asked is how many connections the machine gets done, not how long one takes.
//!
//! The server closes first. So it is the one to remember the connection (TIME_WAIT), and the client's
//! ports are free for the next.

use anyhow::{Context, Result, ensure};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

/// At each end.
const THREADS: usize = 4;
/// Of those before that are not counted.
const WARM: u32 = 20;

/// Answers connections until it is ended.
pub fn serve(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("listen on {address}"))?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    loop {
                        let (mut connection, _) = listener.accept()?;
                        let mut byte = [0];
                        // A client that hangs up ends its connection, not the server.
                        let _ = connection.read_exact(&mut byte).and_then(|()| connection.write_all(&byte));
                    }
                })
            })
            .collect();
        threads.into_iter().try_for_each(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Makes `count` connections and prints how many a second.
pub fn ask(address: SocketAddr, count: u32) -> Result<()> {
    (0..WARM).try_for_each(|_| once(address))?;
    let (start, next) = (Instant::now(), AtomicU32::new(0));
    let work = || {
        while next.fetch_add(1, Ordering::Relaxed) < count {
            once(address)?;
        }
        anyhow::Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    println!("{:.1}", f64::from(count) / start.elapsed().as_secs_f64());
    Ok(())
}

fn once(address: SocketAddr) -> Result<()> {
    let mut connection = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    let mut byte = [1];
    connection.write_all(&byte)?;
    connection.read_exact(&mut byte)?;
    // The server's end of it, before ours.
    ensure!(connection.read(&mut byte)? == 0, "{address} sends more than it was asked for");
    Ok(())
}
