//! Links, addresses and routes.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::netlink::{Message, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, Netlink};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;

const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;

const MAKE: u16 = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub first: Ipv4Addr,
    pub bits: u8,
}

impl Range {
    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0)
    }

    /// Whether one lies within the other.
    pub fn overlaps(self, other: Self) -> bool {
        let mask = self.mask() & other.mask();
        self.first.to_bits() & mask == other.first.to_bits() & mask
    }
}

/// `struct ifinfomsg`.
fn link_head(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut head = [0; 16];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    head[8..12].copy_from_slice(&flags.to_ne_bytes());
    head[12..16].copy_from_slice(&change.to_ne_bytes());
    head
}

/// `struct ifaddrmsg` for one address of version 4.
fn address_head(index: u32) -> [u8; 8] {
    let mut head = [libc::AF_INET as u8, 32, 0, 0, 0, 0, 0, 0];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    head
}

/// `struct rtmsg` for a unicast route of version 4 in the main table.
fn route_head(bits: u8, scope: u8) -> [u8; 12] {
    const MAIN_TABLE: u8 = 254;
    const BY_BOOT: u8 = 3;
    const UNICAST: u8 = 1;
    [libc::AF_INET as u8, bits, 0, 0, MAIN_TABLE, BY_BOOT, scope, UNICAST, 0, 0, 0, 0]
}

const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;

impl Netlink {
    /// A pair of links: `name` here, `eth0` in the network namespace.
    ///
    /// # Errors
    /// `EEXIST` when the name is taken, `EPERM` for an ordinary user, `EOPNOTSUPP` without veth.
    pub fn add_pair(&mut self, name: &str, namespace: BorrowedFd<'_>, mtu: u32) -> io::Result<()> {
        let message = Message::new(RTM_NEWLINK, MAKE, &link_head(0, 0, 0))
            .text(IFLA_IFNAME, name)
            .attribute(IFLA_MTU, &mtu.to_ne_bytes())
            .nested(IFLA_LINKINFO, |info| {
                info.text(IFLA_INFO_KIND, "veth").nested(IFLA_INFO_DATA, |veth| {
                    veth.nested(VETH_INFO_PEER, |peer| {
                        peer.raw(&link_head(0, 0, 0))
                            .text(IFLA_IFNAME, "eth0")
                            .attribute(IFLA_MTU, &mtu.to_ne_bytes())
                            .attribute(IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes())
                    })
                })
            });
        self.ask(message)
    }

    /// # Errors
    /// `ENODEV` when it is not there.
    pub fn remove_link(&mut self, index: u32) -> io::Result<()> {
        self.ask(Message::new(RTM_DELLINK, NLM_F_ACK, &link_head(index, 0, 0)))
    }

    /// # Errors
    /// What the kernel answers.
    pub fn set_up(&mut self, index: u32) -> io::Result<()> {
        let up = libc::IFF_UP as u32;
        self.ask(Message::new(RTM_NEWLINK, NLM_F_ACK, &link_head(index, up, up)))
    }

    /// Every link: index, name, largest packet.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn links(&mut self) -> io::Result<Vec<(u32, String, u32)>> {
        let answers = self.list(Message::new(RTM_GETLINK, NLM_F_DUMP, &link_head(0, 0, 0)))?;
        let link = |answer: &super::netlink::Answer| {
            let index = u32::from_ne_bytes(*answer.payload.get(4..)?.first_chunk()?);
            let attributes = answer.attributes(16);
            let find = |kind| attributes.iter().find(|(found, _)| *found == kind).map(|(_, v)| *v);
            let name = find(IFLA_IFNAME)?.strip_suffix(&[0])?;
            let mtu = find(IFLA_MTU)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))?;
            Some((index, String::from_utf8_lossy(name).into_owned(), mtu))
        };
        Ok(answers.iter().filter_map(link).collect())
    }

    /// # Errors
    /// When there is no link of this name.
    pub fn index_of(&mut self, name: &str) -> io::Result<u32> {
        Ok(rustix::net::netdevice::name_to_index(self.socket(), name)?)
    }

    /// Gives a link one address of its own.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn add_address(&mut self, index: u32, address: Ipv4Addr) -> io::Result<()> {
        let octets = address.octets();
        let message = Message::new(RTM_NEWADDR, MAKE, &address_head(index))
            .attribute(IFA_LOCAL, &octets)
            .attribute(IFA_ADDRESS, &octets);
        self.ask(message)
    }

    /// A route to one address over a link.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn add_neighbour_route(&mut self, index: u32, address: Ipv4Addr) -> io::Result<()> {
        let message = Message::new(RTM_NEWROUTE, MAKE, &route_head(32, SCOPE_LINK))
            .attribute(RTA_DST, &address.octets())
            .attribute(RTA_OIF, &index.to_ne_bytes());
        self.ask(message)
    }

    /// The route to everywhere else.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn add_default_route(&mut self, index: u32, gateway: Ipv4Addr) -> io::Result<()> {
        let message = Message::new(RTM_NEWROUTE, MAKE, &route_head(0, SCOPE_UNIVERSE))
            .attribute(RTA_GATEWAY, &gateway.octets())
            .attribute(RTA_OIF, &index.to_ne_bytes());
        self.ask(message)
    }

    /// Every address of version 4 that this machine has.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn addresses(&mut self) -> io::Result<Vec<Ipv4Addr>> {
        let answers = self.list(Message::new(RTM_GETADDR, NLM_F_DUMP, &address_head(0)))?;
        let address = |answer: &super::netlink::Answer| {
            let attributes = answer.attributes(8);
            let (_, value) = attributes.iter().find(|(kind, _)| *kind == IFA_LOCAL)?;
            Some(Ipv4Addr::from(*value.first_chunk::<4>()?))
        };
        Ok(answers.iter().filter_map(address).collect())
    }

    /// Every destination that has a route, and the link of the best route to everywhere.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn routes_of_host(&mut self) -> io::Result<(Vec<Range>, Option<u32>)> {
        let head = route_head(0, SCOPE_UNIVERSE);
        let answers = self.list(Message::new(RTM_GETROUTE, NLM_F_DUMP, &head))?;
        let mut ranges = Vec::new();
        let mut default: Option<(u32, u32)> = None;
        for answer in &answers {
            if answer.payload.first() != Some(&(libc::AF_INET as u8)) {
                continue;
            }
            let attributes = answer.attributes(12);
            let number = |kind| {
                let found = attributes.iter().find(|(found, _)| *found == kind)?;
                found.1.first_chunk::<4>().copied()
            };
            match (answer.payload.get(1), number(RTA_DST)) {
                (Some(bits), Some(first)) => {
                    ranges.push(Range { first: first.into(), bits: *bits });
                }
                (Some(0), None) => {
                    let priority = number(RTA_PRIORITY).map_or(0, u32::from_ne_bytes);
                    if let Some(link) = number(RTA_OIF).map(u32::from_ne_bytes)
                        && default.is_none_or(|(best, _)| priority < best)
                    {
                        default = Some((priority, link));
                    }
                }
                _ => {}
            }
        }
        Ok((ranges, default.map(|(_, link)| link)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_overlap_when_one_lies_within_the_other() {
        let range = |text: [u8; 4], bits| Range { first: text.into(), bits };
        let slot = range([172, 21, 16, 0], 20);
        assert!(slot.overlaps(range([172, 16, 0, 0], 12)));
        assert!(slot.overlaps(range([172, 21, 17, 3], 32)));
        assert!(!slot.overlaps(range([172, 21, 32, 0], 20)));
        assert!(slot.overlaps(range([0, 0, 0, 0], 0)));
    }

    #[test]
    fn this_machine_lists_its_loopback() {
        let mut netlink = Netlink::routes().unwrap();
        assert!(netlink.links().unwrap().iter().any(|(_, name, mtu)| name == "lo" && *mtu > 0));
        assert!(netlink.addresses().unwrap().contains(&Ipv4Addr::LOCALHOST));
        assert!(netlink.index_of("lo").unwrap() > 0);
        netlink.routes_of_host().unwrap();
    }
}
