//! Pages of lists that are in memory.

use std::cmp::Reverse;
use std::str::FromStr;

use corral_types::{Id, Kind, Timestamp};

use super::answer::{Answer, invalid};
use crate::api::{DEFAULT_PAGE, MAX_PAGE, Page};

/// Where something stands in a list: by its time, and by its id among those of one moment. As a
/// cursor it names the last entry of a page, so that what comes or goes meanwhile moves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    millis: u64,
    id: u128,
}

impl Place {
    pub fn new<K: Kind>(at: Timestamp, id: Id<K>) -> Self {
        Self { millis: at.as_millis(), id: id.as_u128() }
    }

    fn cursor(self) -> String {
        format!("{}-{:x}", self.millis, self.id)
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (millis, id) = text.split_once('-').ok_or(())?;
        let millis = millis.parse().map_err(|_| ())?;
        Ok(Self { millis, id: u128::from_str_radix(id, 16).map_err(|_| ())? })
    }
}

/// A page of things, newest first.
pub fn newest_first<T>(
    mut all: Vec<T>,
    place: impl Fn(&T) -> Place,
    after: Option<&str>,
    limit: Option<u32>,
) -> Answer<Page<T>> {
    let after =
        match after {
            None => None,
            Some(text) => Some(text.parse::<Place>().map_err(|()| {
                invalid(format!("`{text}` is not the `next` of a page of this list"))
            })?),
        };
    let limit = limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(invalid(format!("`limit` is {limit}; a page has 1 to {MAX_PAGE} entries")));
    }
    all.retain(|one| after.is_none_or(|after| place(one) < after));
    all.sort_by_key(|one| Reverse(place(one)));
    let has_more = all.len() > limit as usize;
    all.truncate(limit as usize);
    let next = all.last().filter(|_| has_more).map(|last| place(last).cursor());
    Ok(Page { items: all, next })
}

#[cfg(test)]
mod tests {
    use corral_types::AppId;

    use super::*;

    fn place(number: &u64) -> Place {
        // Two of each moment; ids say nothing of the time.
        let id = AppId::from_u128(u128::MAX - u128::from(*number));
        Place::new(Timestamp::from_millis(number / 2), id)
    }

    #[test]
    fn pages_hold_everything_once() {
        let all = || (0..7u64).collect::<Vec<_>>();
        let (mut seen, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = newest_first(all(), place, after.as_deref(), Some(3)).unwrap();
            seen.extend(page.items);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, [6, 4, 5, 2, 3, 0, 1]);
        assert_eq!(newest_first(all(), place, None, Some(7)).unwrap().next, None);
        for wrong in ["x", "1", "1-", "-1", "1-g"] {
            assert!(newest_first(all(), place, Some(wrong), None).is_err(), "{wrong}");
        }
        assert!(newest_first(all(), place, None, Some(0)).is_err());
    }
}
