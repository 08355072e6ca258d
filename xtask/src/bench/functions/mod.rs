//! Python functions: the official client and raw ones, beside the floor of the client itself.
//!
//! Each part is a file here and is measured by itself with `--only PART`. The client, its
//! container side and raw clients talk to a server with canned answers (`floor`) and to a real
//! one in the same run, so that what the server adds is a difference of figures taken together.

mod client;
mod cold;
mod floor;
mod images;
mod kills;
mod memory;
pub mod minimal;
mod process;
mod queue;
mod raw;
pub mod soak;
mod storm;
mod tree;
mod wire;

use anyhow::bail;

use super::Selection;
use super::report::Figure;

type Part = fn() -> anyhow::Result<Vec<Figure>>;

const PARTS: &[(&str, Part)] = &[
    ("floor", client::floor),
    ("client", client::beside_floor),
    ("raw", raw::run),
    ("cold", cold::run),
    ("memory", memory::run),
    ("images", images::run),
    ("queue", queue::run),
    ("kills", kills::run),
];

pub fn run(selection: &Selection) -> anyhow::Result<Vec<Figure>> {
    let known: Vec<_> = PARTS.iter().map(|(name, _)| *name).collect();
    let unknown = selection.only.iter().find(|only| !known.contains(&only.as_str()));
    if let Some(unknown) = unknown {
        bail!("functions have no part `{unknown}`; there are {}", known.join(", "));
    }
    let mut figures = Vec::new();
    for (name, part) in PARTS {
        if selection.has(name) {
            eprintln!("functions, {name}");
            figures.extend(part()?);
        }
    }
    Ok(figures)
}
