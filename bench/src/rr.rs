//! TCP_RR: one byte there, one byte back, over one connection. What netperf measures under that
//! name; written here because Debian does not ship netperf in its free part.

use anyhow::{Context, Result};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

/// Answers every byte of every connection until it is ended.
pub fn serve(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("listen on {address}"))?;
    for connection in listener.incoming() {
        let mut connection = connection?;
        connection.set_nodelay(true)?;
        std::thread::spawn(move || {
            let mut byte = [0];
            // A client that hangs up ends its connection, not the server.
            while connection.read_exact(&mut byte).is_ok() && connection.write_all(&byte).is_ok() {}
        });
    }
    Ok(())
}

/// Asks for `seconds` and prints the mean microseconds of one round trip.
pub fn ask(address: SocketAddr, seconds: u64) -> Result<()> {
    let mut connection = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    connection.set_nodelay(true)?;
    let mut byte = [0];
    for _ in 0..1_000 {
        connection.write_all(&byte)?;
        connection.read_exact(&mut byte)?;
    }
    let (start, limit) = (Instant::now(), Duration::from_secs(seconds));
    let mut rounds = 0u64;
    while start.elapsed() < limit {
        for _ in 0..100 {
            connection.write_all(&byte)?;
            connection.read_exact(&mut byte)?;
        }
        rounds += 100;
    }
    println!("{:.3}", start.elapsed().as_secs_f64() * 1e6 / rounds as f64);
    Ok(())
}
