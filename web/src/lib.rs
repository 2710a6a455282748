//! The dashboard: what tenants and operators look at.
//!
//! It is a client of the public API and nothing else: it has no database, no rights of its own, and no
//! secret but the tokens of those who are signed in. Whatever a page shows or does, its user could show
//! or do by any other client; so what may be seen is decided in one place, the API.
//!
//! Pages are HTML made here ([`handlers`], `templates/`). A kind of object is one file of declarations
//! ([`resource`]), from which the same few handlers make its list, its page, its forms and its deletion.
//! Everything works without JavaScript; with it, pages follow the changes of others ([`handlers::live`]).
//!
//! What the browser may do is narrow: nothing from another origin, no script or style in a page
//! ([`guard`]), and no change without the session's own token in the form ([`session`]).

pub mod advice;
pub mod api;
pub mod assets;
pub mod cell;
pub mod config;
pub mod fault;
pub mod form;
pub mod guard;
pub mod handlers;
pub mod held;
pub mod link;
pub mod map;
pub mod page;
pub mod preferences;
pub mod resource;
pub mod server;
pub mod session;
pub mod signed;
