//! A worker's part of the machine's network: a range of addresses, a table in the packet filter,
//! and a link for each container.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::filter::{self, LINK_PREFIX, Rules};
use super::links::Range;
use super::{Address, Netlink};
use crate::Unavailable;
use crate::names::servers_of_this_machine;

/// Where containers' addresses are taken from: the first part that this machine has no route to.
const POOLS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(10, 213, 0, 0), Ipv4Addr::new(172, 29, 0, 0), Ipv4Addr::new(100, 96, 0, 0)];

/// Of each pool, as many parts.
const SLOTS: u32 = 16;
const SLOT_BITS: u8 = 20;

/// The addresses of a part that containers get: neither the network's, the gateway's nor the last.
const FIRST_CONTAINER: u32 = 2;
const LAST_CONTAINER: u32 = (1 << (32 - SLOT_BITS)) - 2;

/// The links of containers of one worker, and what leads them outward. Dropping it takes it all
/// down.
pub struct Uplink {
    rules: Rules,
    /// The largest packet of the link outward.
    mtu: u32,
    numbers: Mutex<BTreeSet<u32>>,
    /// Names that a living worker holds: its own, and that of its addresses.
    _held: [OwnedFd; 2],
}

/// One container's link. Dropping it removes it.
pub struct Link {
    uplink: Arc<Uplink>,
    index: u32,
    number: u32,
}

impl Uplink {
    /// Takes a range of addresses and lets containers out through the machine's default route.
    /// Removes what dead workers left. `name` is the worker's own.
    ///
    /// # Errors
    /// Why not, and what would allow it.
    pub fn open(name: &str) -> Result<Self, Unavailable> {
        let tag = tag(name);
        let failed = |what: &'static str, setting: &'static str| {
            move |error: io::Error| Unavailable {
                reason: format!("{what}: {error}"),
                setting: setting.into(),
            }
        };
        let as_root = "run the worker as root";
        if !rustix::process::geteuid().is_root() {
            return Err(Unavailable {
                reason: "links of containers take real root".into(),
                setting: as_root.into(),
            });
        }
        // First, so that what an earlier worker of this name left is taken down as well.
        clean_up().map_err(failed(
            "list the tables of the packet filter",
            "load the kernel module nf_tables: modprobe nf_tables nft_masq nft_ct",
        ))?;
        let held = hold_name(&format!("worker-{tag}")).map_err(failed(
            "another worker of the same name runs on this machine",
            "give each worker a data directory of its own",
        ))?;
        let mut netlink =
            Netlink::routes().map_err(failed("open the network's socket", as_root))?;
        let (routes, default) =
            netlink.routes_of_host().map_err(failed("list the machine's routes", as_root))?;
        let links = netlink.links().map_err(failed("list the machine's links", as_root))?;
        let outward = links.into_iter().find(|(index, ..)| Some(*index) == default);
        let Some((_, outward, mtu)) = outward else {
            return Err(Unavailable {
                reason: "this machine has no default route of version 4".into(),
                setting: "ip route add default via ROUTER".into(),
            });
        };
        let taken = netlink.addresses().map_err(failed("list the machine's addresses", as_root))?;
        let (range, held_range) = take_range(&tag, &routes, &taken).ok_or_else(|| Unavailable {
            reason: "every range for containers overlaps with a route of this machine".into(),
            setting: format!("free a /{SLOT_BITS} in one of {POOLS:?}"),
        })?;
        // A link that another worker opened stays open for as long as any of them lives.
        let of_others = filter::tables().unwrap_or_default();
        let shared = of_others.iter().any(|table| table.opened.contains(&outward));
        let opened = match forwards(&outward) && !shared {
            true => Vec::new(),
            false => vec![outward],
        };
        let name_servers = servers_of_this_machine()
            .into_iter()
            .filter_map(|server| match server {
                IpAddr::V4(server) => Some(server),
                IpAddr::V6(_) => None,
            })
            .collect();
        let uplink = Self {
            rules: Rules { tag, range, name_servers, opened },
            mtu,
            numbers: Mutex::default(),
            _held: [held, held_range],
        };
        uplink.rules.install().map_err(failed(
            "install rules in the packet filter",
            "load the kernel modules nf_tables, nft_masq and nft_ct",
        ))?;
        for link in &uplink.rules.opened {
            set_forwarding(link, "1").map_err(failed(
                "let the machine's link forward",
                "make /proc/sys writable for the worker, or set net.ipv4.ip_forward=1",
            ))?;
        }
        Ok(uplink)
    }

    /// Leads a network namespace outward; the link in it still has to take the address.
    ///
    /// # Errors
    /// When there are as many links as addresses, or the kernel refuses.
    pub fn connect(self: &Arc<Self>, namespace: BorrowedFd<'_>) -> io::Result<(Link, Address)> {
        let number = self.take_number()?;
        let made = self.make_link(namespace, number);
        let (index, address) = made.inspect_err(|_| _ = self.numbers().remove(&number))?;
        Ok((Link { uplink: self.clone(), index, number }, address))
    }

    fn make_link(&self, namespace: BorrowedFd<'_>, number: u32) -> io::Result<(u32, Address)> {
        let name = format!("{}-{number:x}", self.rules.link_prefix());
        let mut netlink = Netlink::routes()?;
        // That of a container that has ended may be on its way out.
        if let Ok(index) = netlink.index_of(&name) {
            let _ = netlink.remove_link(index);
        }
        netlink.add_pair(&name, namespace, self.mtu)?;
        let index = netlink.index_of(&name)?;
        let address = Address { own: self.address(number), gateway: self.address(1) };
        let mut set_up = || {
            // It has no business with its neighbours beyond the one address.
            fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1").or_else(
                |error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) },
            )?;
            set_forwarding(&name, "1")?;
            netlink.set_up(index)?;
            netlink.add_address(index, address.gateway)?;
            netlink.add_neighbour_route(index, address.own)
        };
        match set_up() {
            Ok(()) => Ok((index, address)),
            Err(error) => {
                let _ = netlink.remove_link(index);
                Err(error)
            }
        }
    }

    fn address(&self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.rules.range.first.to_bits() + number)
    }

    fn take_number(&self) -> io::Result<u32> {
        let mut numbers = self.numbers();
        let free = (FIRST_CONTAINER..=LAST_CONTAINER).find(|number| !numbers.contains(number));
        let number = free.ok_or_else(|| {
            io::Error::other(format!(
                "{LAST_CONTAINER} containers have links, and no address is left"
            ))
        })?;
        numbers.insert(number);
        Ok(number)
    }

    fn numbers(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Uplink {
    fn drop(&mut self) {
        close(&self.rules.tag, &self.rules.opened);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // With the container's namespace it has gone by itself.
        let _ = Netlink::routes().and_then(|mut netlink| netlink.remove_link(self.index));
        self.uplink.numbers().remove(&self.number);
    }
}

/// Removes the tables and links of workers that are dead.
///
/// # Errors
/// When the packet filter cannot be read.
pub fn clean_up() -> io::Result<()> {
    for table in filter::tables()? {
        // Whoever holds its name is alive.
        if let Ok(_held) = hold_name(&format!("worker-{}", table.tag)) {
            close(&table.tag, &table.opened);
        }
    }
    let mut netlink = Netlink::routes()?;
    for (index, name, _) in netlink.links()? {
        let tag = name.strip_prefix(LINK_PREFIX).and_then(|rest| rest.split_once('-'));
        if let Some((tag, _)) = tag
            && let Ok(_held) = hold_name(&format!("worker-{tag}"))
        {
            let _ = netlink.remove_link(index);
        }
    }
    Ok(())
}

/// Takes down what a worker put up, and lets links forward no longer that did so only for it.
fn close(tag: &str, opened: &[String]) {
    // It may be gone already, which is what is wanted.
    let _ = filter::remove_table(tag);
    let others: Vec<String> =
        filter::tables().unwrap_or_default().into_iter().flat_map(|table| table.opened).collect();
    for link in opened.iter().filter(|link| !others.contains(link)) {
        let _ = set_forwarding(link, "0");
    }
}

/// A short name of a worker that fits into the name of a link.
fn tag(name: &str) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    // FNV-1a: the same in every version of this program.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (0..7).map(|at| char::from(LETTERS[(hash >> (5 * at)) as usize & 31])).collect()
}

/// Holds a name as long as this process lives: a socket in the kernel's own name space.
fn hold_name(name: &str) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new_abstract_name(format!("corral/{name}").as_bytes())?;
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

/// A range that overlaps with nothing, beginning at one that follows from the tag.
fn take_range(tag: &str, routes: &[Range], taken: &[Ipv4Addr]) -> Option<(Range, OwnedFd)> {
    let first = tag.bytes().fold(0, |sum: u32, byte| sum.wrapping_mul(31) + u32::from(byte));
    let slots = POOLS.into_iter().flat_map(|pool| {
        (0..SLOTS).map(move |slot| {
            let offset = (first.wrapping_add(slot) % SLOTS) << (32 - SLOT_BITS);
            Range { first: Ipv4Addr::from_bits(pool.to_bits() + offset), bits: SLOT_BITS }
        })
    });
    let is_free = |range: &Range| {
        let addresses = taken.iter().map(|address| Range { first: *address, bits: 32 });
        let everywhere = |route: &Range| route.bits == 0;
        !routes
            .iter()
            .copied()
            .filter(|route| !everywhere(route))
            .chain(addresses)
            .any(|other| range.overlaps(other))
    };
    slots
        .filter(is_free)
        .find_map(|range| Some((range, hold_name(&format!("range-{}", range.first)).ok()?)))
}

fn forwarding_file(link: &str) -> String {
    format!("/proc/sys/net/ipv4/conf/{link}/forwarding")
}

fn forwards(link: &str) -> bool {
    fs::read_to_string(forwarding_file(link)).is_ok_and(|text| text.trim() == "1")
}

fn set_forwarding(link: &str, value: &str) -> io::Result<()> {
    fs::write(forwarding_file(link), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_keep_clear_of_the_machines_own() {
        let routes = [
            Range { first: Ipv4Addr::new(10, 0, 0, 0), bits: 8 },
            Range { first: Ipv4Addr::UNSPECIFIED, bits: 0 },
        ];
        let tag = tag(&format!("test-{}", std::process::id()));
        let (one, _held) = take_range(&tag, &routes, &[]).unwrap();
        assert_eq!(one.first.octets()[..2], [172, 29]);
        // Another worker with the same luck takes another.
        let (other, _held_too) = take_range(&tag, &routes, &[]).unwrap();
        assert!(!one.overlaps(other));
        assert!(take_range(&tag, &POOLS.map(|first| Range { first, bits: 12 }), &[]).is_none());
    }

    #[test]
    fn names_are_held_by_one_process() {
        let name = format!("test-{}", std::process::id());
        let held = hold_name(&name).unwrap();
        assert!(hold_name(&name).is_err());
        drop(held);
        assert!(hold_name(&name).is_ok());
        assert!(tag("a worker").len() + LINK_PREFIX.len() + 5 <= 15);
    }
}
