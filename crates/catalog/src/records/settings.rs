//! Settings of the instance, such as its id. They belong to no workspace.

use super::Answer;

pub trait Settings {
    fn setting(&self, key: String) -> Answer<'_, Option<String>>;

    fn put_setting(&self, key: String, value: String) -> Answer<'_, ()>;

    /// The value of a key, which is set to `value` if it has none.
    fn setting_or_insert(&self, key: String, value: String) -> Answer<'_, String>;
}
