//! Lists in pages.

use std::fmt;
use std::str::FromStr;

use crate::CatalogError;

/// Items in one page at most: what is held in memory and sent in one answer.
pub const MAX_PAGE_ITEMS: u32 = 1_000;

/// The place after the last item of a page. Its text means nothing outside the list that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(u128);

impl Cursor {
    pub(crate) const fn new(position: u128) -> Self {
        Self(position)
    }

    pub(crate) const fn position(self) -> u128 {
        self.0
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl FromStr for Cursor {
    type Err = CatalogError;

    fn from_str(text: &str) -> Result<Self, CatalogError> {
        let hexadecimal = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match u128::from_str_radix(text, 16) {
            Ok(position) if hexadecimal => Ok(Self(position)),
            _ => Err(CatalogError::Cursor(text.chars().take(40).collect())),
        }
    }
}

/// Which part of a list is wanted.
#[derive(Clone, Copy, Debug)]
pub struct PageRequest {
    after: Option<Cursor>,
    limit: u32,
}

impl PageRequest {
    /// The items after a cursor, or the first ones; `limit` is brought into
    /// 1 ..= [`MAX_PAGE_ITEMS`].
    pub fn new(after: Option<Cursor>, limit: u32) -> Self {
        Self { after, limit: limit.clamp(1, MAX_PAGE_ITEMS) }
    }

    pub(crate) fn after(&self) -> Option<u128> {
        self.after.map(Cursor::position)
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit as usize
    }
}

/// The largest first page.
impl Default for PageRequest {
    fn default() -> Self {
        Self::new(None, MAX_PAGE_ITEMS)
    }
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Where the next page begins; `None` when this is the last.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// A page of a listing that was asked for one item more than the page may have.
    pub(crate) fn cut(mut items: Vec<T>, limit: usize, position: impl Fn(&T) -> u128) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|last| Cursor::new(position(last)));
        Self { items, next }
    }
}

/// Every item of a list, page by page; for lists known to fit memory.
///
/// # Errors
/// The first error of a page.
pub async fn all_pages<T, E, F, A>(mut page: F) -> Result<Vec<T>, E>
where
    F: FnMut(PageRequest) -> A,
    A: Future<Output = Result<Page<T>, E>>,
{
    let mut items = Vec::new();
    let mut request = PageRequest::default();
    loop {
        let mut next = page(request).await?;
        items.append(&mut next.items);
        match next.next {
            Some(cursor) => request = PageRequest::new(Some(cursor), MAX_PAGE_ITEMS),
            None => return Ok(items),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_and_nothing_else_does() {
        for position in [0, 1, u128::MAX] {
            let cursor = Cursor::new(position);
            assert_eq!(cursor.to_string().parse::<Cursor>().ok(), Some(cursor));
        }
        for bad in ["", "+1", "-1", "G", "1 ", "100000000000000000000000000000000", "é"] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad}");
        }
    }
}
