//! Names that are allowed, and ids that follow from what they name.

use corral_types::{Id, Kind, WorkspaceId};

use crate::AppsError;

/// The longest name of an app, a secret or an environment, as clients have it.
const MAX_NAME_BYTES: usize = 64;

/// The longest name of a function within its app: qualified names of Python can be long.
const MAX_TAG_BYTES: usize = 1_024;

/// Refuses what is not the name of an app, a secret or an environment: 1 to 64 letters, digits,
/// `-`, `_` and `.`.
pub(crate) fn check_name(what: &'static str, text: &str) -> Result<(), AppsError> {
    let refuse = |reason: &str| {
        let text: String = text.chars().take(80).collect();
        Err(AppsError::Name { what, text, reason: reason.to_owned() })
    };
    if text.is_empty() || text.len() > MAX_NAME_BYTES {
        return refuse("it has 1 to 64 characters");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !text.chars().all(plain) {
        return refuse("it has letters, digits, `-`, `_` and `.`");
    }
    Ok(())
}

/// Refuses what is not the name of a function or a class in its app.
pub(crate) fn check_tag(text: &str) -> Result<(), AppsError> {
    if text.is_empty() || text.len() > MAX_TAG_BYTES || text.chars().any(char::is_control) {
        let reason = format!("it has 1 to {MAX_TAG_BYTES} characters");
        let text = text.chars().take(80).collect();
        return Err(AppsError::Name { what: "a function", text, reason });
    }
    Ok(())
}

/// The id that these parts always have in a workspace.
pub(crate) fn derived_id<K: Kind>(workspace: WorkspaceId, parts: &[&[u8]]) -> Id<K> {
    let mut hasher = blake3::Hasher::new_derive_key("corral 2026 id that follows from its parts");
    hasher.update(K::PREFIX.as_bytes());
    hasher.update(&workspace.as_u128().to_be_bytes());
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let bytes = hasher.finalize();
    let half = bytes.as_bytes().first_chunk::<16>().expect("a hash has 32 bytes");
    Id::from_u128(u128::from_be_bytes(*half))
}

#[cfg(test)]
mod tests {
    use corral_types::FunctionId;

    use super::*;

    #[test]
    fn names_are_those_that_clients_allow() {
        for good in ["a", "My_App-1.2", &"x".repeat(64)] {
            assert!(check_name("an app", good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "ä", "a/b", &"x".repeat(65)] {
            assert!(check_name("an app", bad).is_err(), "{bad}");
        }
        assert!(check_tag("Outer.<locals>.f").is_ok() && check_tag("C.*").is_ok());
        assert!(check_tag("").is_err() && check_tag("a\nb").is_err());
    }

    #[test]
    fn derived_ids_follow_from_every_part() {
        let id = |workspace, parts: &[&[u8]]| -> FunctionId {
            derived_id(WorkspaceId::from_u128(workspace), parts)
        };
        assert_eq!(id(1, &[b"a", b"b"]), id(1, &[b"a", b"b"]));
        assert_ne!(id(1, &[b"a", b"b"]), id(2, &[b"a", b"b"]));
        assert_ne!(id(1, &[b"ab"]), id(1, &[b"a", b"b"]));
        let cls: corral_types::ClsId = derived_id(WorkspaceId::from_u128(1), &[b"ab"]);
        assert_ne!(cls.as_u128(), id(1, &[b"ab"]).as_u128());
    }
}
