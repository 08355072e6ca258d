//! The network of containers: each has a link of its own that leads outward only.

mod filter;
mod links;
mod netlink;
mod uplink;

use std::io;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

pub use netlink::Netlink;
pub use uplink::{Link, Uplink, clean_up};

/// Where a container is in its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    pub own: Ipv4Addr,
    /// The other end of its link.
    pub gateway: Ipv4Addr,
}

/// Brings up the loopback of a fresh network namespace, from within.
///
/// # Errors
/// What the kernel answers.
pub fn raise_loopback() -> io::Result<()> {
    let mut netlink = Netlink::routes()?;
    let loopback = netlink.index_of("lo")?;
    netlink.set_up(loopback)
}

/// Gives the link of this namespace its address and the route outward, from within.
///
/// # Errors
/// What the kernel answers.
pub fn take_address(address: Address) -> io::Result<()> {
    let mut netlink = Netlink::routes()?;
    let link = netlink.index_of("eth0")?;
    netlink.add_address(link, address.own)?;
    netlink.set_up(link)?;
    netlink.add_neighbour_route(link, address.gateway)?;
    netlink.add_default_route(link, address.gateway)
}
