use rusqlite::{Connection, OptionalExtension};

use super::SqliteCatalog;
use crate::{Answer, Settings};

fn value(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached("SELECT value FROM settings WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()
}

impl Settings for SqliteCatalog {
    fn setting(&self, key: String) -> Answer<'_, Option<String>> {
        self.read(move |connection| Ok(value(connection, &key)?))
    }

    fn put_setting(&self, key: String, value: String) -> Answer<'_, ()> {
        self.write(move |connection| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO settings (key, value) VALUES (?1, ?2)")?
                .execute([key, value])?;
            Ok(())
        })
    }

    fn setting_or_insert(&self, key: String, value: String) -> Answer<'_, String> {
        self.write(move |connection| {
            if let Some(there) = self::value(connection, &key)? {
                return Ok(there);
            }
            connection
                .prepare_cached("INSERT INTO settings (key, value) VALUES (?1, ?2)")?
                .execute([&key, &value])?;
            Ok(value)
        })
    }
}
