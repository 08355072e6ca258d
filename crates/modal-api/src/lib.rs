//! The messages of the official `modal` client's protocol that Corral speaks.
//!
//! `proto/` names packages, messages, fields and numbers as the client does, since those are the
//! interface; it holds the methods that Corral serves and what can be reached from them. The
//! types are generated from it when this crate is built.

mod generated {
    include!(concat!(env!("OUT_DIR"), "/modal.client.rs"));
}

pub use generated::*;
pub use prost::{Message, bytes::Bytes};
pub use prost_types::Timestamp;

/// The service's full name, as it stands in the paths of requests.
pub const SERVICE: &str = "modal.client.ModalClient";

/// The methods of the service that this crate has messages for.
pub const METHODS: &[&str] = include!(concat!(env!("OUT_DIR"), "/methods.rs"));
