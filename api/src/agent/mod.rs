//! The agents' side of the API: registration, sync and snapshots over mutual TLS, on a listener
//! of its own (CONTROLPLANE sections 1, 4, 7).
//!
//! How `main` uses it (declare `mod agent;`, or `pub mod agent;` in `lib.rs`):
//!
//! ```ignore
//! let agents = agent::start(agent::AgentConfig {
//!     listen: agent::Listen::Address(addr),          // or Listen::Inherited(fd), an open TCP listener
//!     tls: agent::TlsPaths { cert, key, client_ca }, // PEM files
//!     database_url: url.clone(),                     // the feed opens connections of its own
//!     lease: Duration::from_secs(30),
//!     underlay_mtu: 1500,
//! }, commands_pool.clone()).await?;                  // listening and caught up with the feed
//! agents.address;                                    // where it listens
//! agents.is_ready();                                 // for /readyz: the tail is alive
//! agents.stop().await;                               // answers waiting polls, then ends
//! ```
