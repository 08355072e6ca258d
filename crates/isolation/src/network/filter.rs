//! The packet filter of one worker's containers: a table of our own among the machine's rules.
//!
//! ```text
//! forward      from a container: to `egress`
//!              to a container: answers only
//!              from the machine's uplink to elsewhere: nothing, where we let it forward at all
//! egress       version 4 from the container's own range; name servers; then nothing to other
//!              containers, to this link, to where clouds keep credentials; the rest may pass
//! input        from a container: name servers only
//! postrouting  leaves with the machine's own address
//! ```

use std::io;
use std::net::Ipv4Addr;

use super::links::Range;
use super::netlink::{Message, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, Netlink};

/// What the names of all links of containers begin with, whichever worker's they are.
pub const LINK_PREFIX: &str = "crl";

/// What the names of all tables begin with.
const TABLE_PREFIX: &str = "corral_";

/// Nothing in these ranges is a container's business: this machine, its link, groups of
/// machines, and the addresses at which clouds give out a machine's credentials.
const CLOSED: [Range; 8] = [
    Range { first: Ipv4Addr::new(0, 0, 0, 0), bits: 8 },
    Range { first: Ipv4Addr::new(127, 0, 0, 0), bits: 8 },
    Range { first: Ipv4Addr::new(169, 254, 0, 0), bits: 16 },
    Range { first: Ipv4Addr::new(224, 0, 0, 0), bits: 4 },
    Range { first: Ipv4Addr::new(240, 0, 0, 0), bits: 4 },
    Range { first: Ipv4Addr::new(100, 100, 100, 200), bits: 32 },
    Range { first: Ipv4Addr::new(168, 63, 129, 16), bits: 32 },
    Range { first: Ipv4Addr::new(192, 0, 0, 192), bits: 32 },
];

/// What the table of one worker lets through.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The worker's short name.
    pub tag: String,
    /// The addresses of its containers.
    pub range: Range,
    pub name_servers: Vec<Ipv4Addr>,
    /// The links of the machine that forward only because of us.
    pub opened: Vec<String>,
}

const TABLES: u16 = 10 << 8;
const NEW_TABLE: u16 = TABLES;
const GET_TABLE: u16 = TABLES | 1;
const DELETE_TABLE: u16 = TABLES | 2;
const NEW_CHAIN: u16 = TABLES | 3;
const NEW_RULE: u16 = TABLES | 6;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

/// Both versions of the protocol at once.
const FAMILY_INET: u8 = 1;
const VERSION_4: u8 = 2;

const TABLE_NAME: u16 = 1;
const TABLE_NOTE: u16 = 6;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_BODY: u16 = 2;

const HOOK_INPUT: u32 = 1;
const HOOK_FORWARD: u32 = 2;
const HOOK_POSTROUTING: u32 = 4;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SOURCE_NAT: i32 = 100;

const REGISTER: u32 = 1;
const REGISTER_VERDICT: u32 = 0;
const DROP: i32 = 0;
const ACCEPT: i32 = 1;
const JUMP: i32 = -3;

const META_IN_NAME: u32 = 6;
const META_OUT_NAME: u32 = 7;
const META_VERSION: u32 = 15;
const META_PROTOCOL: u32 = 16;
/// Established or related, as a mask over a connection's state.
const STATE_ANSWERS: u32 = 2 | 4;

const OFFSET_SOURCE: u32 = 12;
const OFFSET_DESTINATION: u32 = 16;

/// Where names are asked for.
const PORT_NAMES: u16 = 53;

/// `struct nfgenmsg`.
fn head(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

fn message(kind: u16, flags: u16) -> Message {
    Message::new(kind, flags, &head(FAMILY_INET, 0))
}

/// How two values are compared.
#[derive(Clone, Copy)]
enum Is {
    Equal,
    Other,
}

/// A rule under construction: conditions, and what becomes of a packet that meets all of them.
#[derive(Default)]
struct Rule {
    expressions: Vec<Expression>,
}

struct Expression {
    name: &'static str,
    body: Box<dyn FnOnce(Message) -> Message>,
}

fn number(message: Message, kind: u16, value: u32) -> Message {
    message.attribute(kind, &value.to_be_bytes())
}

impl Rule {
    fn with(mut self, name: &'static str, body: impl FnOnce(Message) -> Message + 'static) -> Self {
        self.expressions.push(Expression { name, body: Box::new(body) });
        self
    }

    fn meta(self, key: u32) -> Self {
        self.with("meta", move |body| number(number(body, 1, REGISTER), 2, key))
    }

    fn compare(self, is: Is, value: &[u8]) -> Self {
        let value = value.to_vec();
        let operator = match is {
            Is::Equal => 0,
            Is::Other => 1,
        };
        self.with("cmp", move |body| {
            number(number(body, 1, REGISTER), 2, operator)
                .nested(3, |data| data.attribute(1, &value))
        })
    }

    /// The link by which a packet came: its whole name, or what it begins with.
    fn comes_by(self, is: Is, name: &[u8]) -> Self {
        self.meta(META_IN_NAME).compare(is, name)
    }

    fn leaves_by(self, is: Is, name: &[u8]) -> Self {
        self.meta(META_OUT_NAME).compare(is, name)
    }

    fn version(self, is: Is) -> Self {
        self.meta(META_VERSION).compare(is, &[VERSION_4])
    }

    fn payload(self, base: u32, offset: u32, length: u32) -> Self {
        self.with("payload", move |body| {
            number(number(number(number(body, 1, REGISTER), 2, base), 3, offset), 4, length)
        })
    }

    fn masked(self, mask: [u8; 4]) -> Self {
        self.with("bitwise", move |body| {
            number(number(number(body, 1, REGISTER), 2, REGISTER), 3, 4)
                .nested(4, |data| data.attribute(1, &mask))
                .nested(5, |data| data.attribute(1, &[0; 4]))
        })
    }

    fn address(self, offset: u32, is: Is, range: Range) -> Self {
        let mask = u32::MAX.checked_shl(32 - u32::from(range.bits)).unwrap_or(0);
        let first = (range.first.to_bits() & mask).to_be_bytes();
        self.payload(1, offset, 4).masked(mask.to_be_bytes()).compare(is, &first)
    }

    fn port(self, protocol: i32, port: u16) -> Self {
        self.meta(META_PROTOCOL)
            .compare(Is::Equal, &[protocol as u8])
            .payload(2, 2, 2)
            .compare(Is::Equal, &port.to_be_bytes())
    }

    fn answers(self) -> Self {
        self.with("ct", |body| number(number(body, 1, REGISTER), 2, 0))
            .masked(STATE_ANSWERS.to_ne_bytes())
            .compare(Is::Other, &[0; 4])
    }

    fn verdict(self, code: i32, chain: Option<&'static str>) -> Self {
        self.with("immediate", move |body| {
            number(body, 1, REGISTER_VERDICT).nested(2, |data| {
                data.nested(2, |verdict| {
                    let verdict = number(verdict, 1, code as u32);
                    match chain {
                        Some(chain) => verdict.text(2, chain),
                        None => verdict,
                    }
                })
            })
        })
    }

    fn drop(self) -> Self {
        self.verdict(DROP, None)
    }

    fn accept(self) -> Self {
        self.verdict(ACCEPT, None)
    }

    fn masquerade(self) -> Self {
        self.with("masq", |body| body)
    }
}

impl Rules {
    fn table(&self) -> String {
        format!("{TABLE_PREFIX}{}", self.tag)
    }

    /// What the names of this worker's links begin with.
    pub fn link_prefix(&self) -> String {
        format!("{LINK_PREFIX}{}", self.tag)
    }

    /// Puts the table in place, instead of one of the same name.
    ///
    /// # Errors
    /// What the kernel answers: `EPERM` for an ordinary user, `EOPNOTSUPP` without nf_tables.
    pub fn install(&self) -> io::Result<()> {
        let mut messages = vec![
            // Made, so that it can be removed, so that nothing of it is left.
            message(NEW_TABLE, NLM_F_CREATE | NLM_F_ACK).text(TABLE_NAME, &self.table()),
            message(DELETE_TABLE, NLM_F_ACK).text(TABLE_NAME, &self.table()),
            message(NEW_TABLE, NLM_F_CREATE | NLM_F_ACK)
                .text(TABLE_NAME, &self.table())
                .attribute(TABLE_NOTE, self.opened.join(" ").as_bytes()),
        ];
        messages.push(self.chain("egress", None));
        let filter = |hook| Some(("filter", hook, PRIORITY_FILTER));
        messages.push(self.chain("forward", filter(HOOK_FORWARD)));
        messages.push(self.chain("input", filter(HOOK_INPUT)));
        let source_nat = Some(("nat", HOOK_POSTROUTING, PRIORITY_SOURCE_NAT));
        messages.push(self.chain("postrouting", source_nat));
        for (chain, rules) in self.rules() {
            messages.extend(rules.into_iter().map(|rule| self.rule(chain, rule)));
        }
        commit(messages)
    }

    fn rules(&self) -> [(&'static str, Vec<Rule>); 4] {
        let own = self.link_prefix().into_bytes();
        let any = LINK_PREFIX.as_bytes();
        let rule = Rule::default;
        let mut forward = vec![
            rule().comes_by(Is::Equal, &own).verdict(JUMP, Some("egress")),
            rule().leaves_by(Is::Equal, &own).answers().accept(),
            rule().leaves_by(Is::Equal, &own).drop(),
        ];
        for link in &self.opened {
            let whole = [link.as_bytes(), &[0]].concat();
            forward.push(rule().comes_by(Is::Equal, &whole).leaves_by(Is::Other, any).drop());
        }
        let names = |rule: fn() -> Rule| {
            let to = |server: &Ipv4Addr, protocol| {
                let server = Range { first: *server, bits: 32 };
                rule()
                    .version(Is::Equal)
                    .address(OFFSET_DESTINATION, Is::Equal, server)
                    .port(protocol, PORT_NAMES)
            };
            let both = |server| [to(server, libc::IPPROTO_UDP), to(server, libc::IPPROTO_TCP)];
            self.name_servers.iter().flat_map(both).collect::<Vec<Rule>>()
        };
        let mut egress = vec![
            rule().version(Is::Other).drop(),
            rule().leaves_by(Is::Equal, any).drop(),
            rule().version(Is::Equal).address(OFFSET_SOURCE, Is::Other, self.range).drop(),
        ];
        egress.extend(names(Rule::default).into_iter().map(Rule::accept));
        egress.extend(CLOSED.map(|range| {
            rule().version(Is::Equal).address(OFFSET_DESTINATION, Is::Equal, range).drop()
        }));
        egress.push(rule().accept());
        let mut input: Vec<Rule> = names(Rule::default)
            .into_iter()
            .map(|rule| rule.comes_by(Is::Equal, &own).accept())
            .collect();
        input.push(rule().comes_by(Is::Equal, &own).drop());
        let leaving = rule()
            .version(Is::Equal)
            .address(OFFSET_SOURCE, Is::Equal, self.range)
            .leaves_by(Is::Other, any)
            .masquerade();
        [("forward", forward), ("egress", egress), ("input", input), ("postrouting", vec![leaving])]
    }

    fn chain(&self, name: &str, base: Option<(&'static str, u32, i32)>) -> Message {
        let chain = message(NEW_CHAIN, NLM_F_CREATE | NLM_F_ACK)
            .text(CHAIN_TABLE, &self.table())
            .text(CHAIN_NAME, name);
        match base {
            None => chain,
            Some((kind, hook, priority)) => chain
                .nested(CHAIN_HOOK, |inside| {
                    number(number(inside, HOOK_NUMBER, hook), HOOK_PRIORITY, priority as u32)
                })
                .text(CHAIN_TYPE, kind),
        }
    }

    fn rule(&self, chain: &str, rule: Rule) -> Message {
        message(NEW_RULE, NLM_F_CREATE | NLM_F_APPEND | NLM_F_ACK)
            .text(RULE_TABLE, &self.table())
            .text(RULE_CHAIN, chain)
            .nested(RULE_EXPRESSIONS, |mut list| {
                for Expression { name, body } in rule.expressions {
                    list = list.nested(ELEMENT, |element| {
                        element.text(EXPRESSION_NAME, name).nested(EXPRESSION_BODY, body)
                    });
                }
                list
            })
    }
}

/// A table that some worker made: its tag, and the links that it made forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundTable {
    pub tag: String,
    pub opened: Vec<String>,
}

/// Every table of a worker's on this machine.
///
/// # Errors
/// What the kernel answers.
pub fn tables() -> io::Result<Vec<FoundTable>> {
    let answers = Netlink::filter()?.list(message(GET_TABLE, NLM_F_DUMP))?;
    let table = |answer: &super::netlink::Answer| {
        let attributes = answer.attributes(4);
        let text = |kind| {
            let found = attributes.iter().find(|(found, _)| *found == kind)?;
            Some(String::from_utf8_lossy(found.1).trim_end_matches('\0').to_owned())
        };
        let tag = text(TABLE_NAME)?.strip_prefix(TABLE_PREFIX)?.to_owned();
        let note = text(TABLE_NOTE).unwrap_or_default();
        Some(FoundTable { tag, opened: note.split_whitespace().map(str::to_owned).collect() })
    };
    Ok(answers.iter().filter_map(table).collect())
}

/// Removes the table of a worker.
///
/// # Errors
/// `ENOENT` when it is gone.
pub fn remove_table(tag: &str) -> io::Result<()> {
    commit(vec![message(DELETE_TABLE, NLM_F_ACK).text(TABLE_NAME, &format!("{TABLE_PREFIX}{tag}"))])
}

/// Lets messages take effect, all or none.
fn commit(messages: Vec<Message>) -> io::Result<()> {
    let acknowledged = messages.len();
    let bound = |kind| Message::new(kind, 0, &head(0, TABLES >> 8));
    let mut batch = vec![bound(BATCH_BEGIN)];
    batch.extend(messages);
    batch.push(bound(BATCH_END));
    Netlink::filter()?.ask_batch(batch, acknowledged)
}
