//! The server: the edges of Corral and the wiring of its services.

pub mod api;
mod asking;
mod auth;
mod backup;
pub mod batch_job;
mod cbor;
mod collect;
mod completion;
mod encoding;
mod endpoint_hosts;
mod error;
mod guard;
mod hosting;
mod inference;
pub mod label_job;
mod labeling;
mod listen;
pub mod modal;
mod modelbit;
mod plain_error;
mod rest;
mod run;
mod state;
pub mod training_job;
mod training_texts;
mod worker;

pub use auth::{Access, Tokens, new_token_secret};
pub use backup::{RestoreError, Restored, restore};
pub use corral_serving::OpenLimits;
pub use endpoint_hosts::{DomainError, EndpointDomain};
pub use error::ServerError;
pub use run::{READY_LINE, ServerOptions, TlsFiles, run};
pub use state::Prices;
