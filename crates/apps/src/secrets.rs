//! Secrets: variables that only containers see. Their values lie sealed in the catalog.

use std::collections::BTreeMap;

use corral_catalog::{CatalogError, RecordKind, SecretRecord};
use corral_containers::SecretValue;
use corral_types::{Caller, EnvironmentId, Scope, SecretId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::identity::{check_name, derived_id};
use crate::{Apps, AppsError, require};

/// Variables of one secret at most.
const MAX_VARIABLES: usize = 1_000;

/// The longest name of a variable.
const MAX_KEY_BYTES: usize = 16 << 10;

/// The longest values of one secret together.
const MAX_VALUES_BYTES: usize = 512 << 10;

/// What happens where a secret of the name is there, or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretMode {
    CreateIfMissing,
    CreateOrFail,
    Overwrite,
}

/// A secret to be kept.
#[derive(Clone, Debug)]
pub struct NewSecret {
    pub environment: EnvironmentId,
    /// Without a name, equal values in one environment are one secret.
    pub name: Option<String>,
    pub values: BTreeMap<String, SecretValue>,
    pub mode: SecretMode,
}

/// What is noted of a secret in clear: its keys, and no value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretDetail {
    pub keys: Vec<String>,
    #[serde(default)]
    pub created_by: String,
}

/// A secret as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretInfo {
    pub id: SecretId,
    pub environment: EnvironmentId,
    pub name: Option<String>,
    pub created: Timestamp,
    pub detail: SecretDetail,
}

impl Apps {
    /// Keeps a secret, and answers with what is kept.
    ///
    /// # Errors
    /// When the name is taken, values are too large, or the caller may not write.
    pub async fn put_secret(
        &self,
        caller: &Caller,
        new: NewSecret,
    ) -> Result<SecretInfo, AppsError> {
        require(caller, Scope::Write)?;
        check_values(&new.values)?;
        let catalog = &self.inner.catalog;
        let mut id = None;
        if let Some(name) = &new.name {
            check_name("a secret", name)?;
            let found = catalog.secret_named(caller.workspace, new.environment, name.clone()).await;
            match (new.mode, found) {
                (_, Err(CatalogError::NotFound { .. })) => {}
                (_, Err(error)) => return Err(error.into()),
                (SecretMode::CreateIfMissing, Ok(found)) => return info(found),
                (SecretMode::CreateOrFail, Ok(_)) => {
                    let (what, name) = (RecordKind::Secret, name.clone());
                    return Err(CatalogError::AlreadyExists { what, name }.into());
                }
                (SecretMode::Overwrite, Ok(found)) => id = Some(found.id),
            }
        }
        let values = serde_json::to_vec(&new.values).expect("texts are JSON");
        let id = id.unwrap_or_else(|| match new.name {
            Some(_) => SecretId::generate(),
            // Signed, so that the id does not let anyone try out values.
            None => {
                let environment = new.environment.as_u128().to_be_bytes();
                let signed = self.sign("id of a secret", &[&environment[..], &values].concat());
                derived_id(caller.workspace, &[b"anonymous", &signed])
            }
        });
        let detail = SecretDetail {
            keys: new.values.keys().cloned().collect(),
            created_by: self.who(caller),
        };
        let record = SecretRecord {
            id,
            environment: new.environment,
            name: new.name,
            created: self.inner.clock.now(),
            detail_json: serde_json::to_string(&detail).expect("texts are JSON"),
            sealed: self.inner.key.seal(&place(caller, id), &values),
        };
        catalog.put_secret(caller.workspace, record.clone()).await?;
        info(record)
    }

    /// Changes single variables of a secret; `None` takes one away.
    ///
    /// # Errors
    /// When there is no such secret, or it becomes too large.
    pub async fn change_secret(
        &self,
        caller: &Caller,
        id: SecretId,
        changes: Vec<(String, Option<SecretValue>)>,
    ) -> Result<SecretInfo, AppsError> {
        require(caller, Scope::Write)?;
        let mut record = self.inner.catalog.secret(caller.workspace, id).await?;
        let mut values = self.open_values(caller, &record)?;
        for (key, value) in changes {
            match value {
                Some(value) => values.insert(key, value),
                None => values.remove(&key),
            };
        }
        check_values(&values)?;
        let mut detail = info(record.clone())?.detail;
        detail.keys = values.keys().cloned().collect();
        record.detail_json = serde_json::to_string(&detail).expect("texts are JSON");
        let values = serde_json::to_vec(&values).expect("texts are JSON");
        record.sealed = self.inner.key.seal(&place(caller, id), &values);
        self.inner.catalog.put_secret(caller.workspace, record.clone()).await?;
        info(record)
    }

    /// A secret without its values.
    ///
    /// # Errors
    /// When there is none.
    pub async fn secret(&self, caller: &Caller, id: SecretId) -> Result<SecretInfo, AppsError> {
        info(self.inner.catalog.secret(caller.workspace, id).await?)
    }

    /// A secret by name, which has all these keys.
    ///
    /// # Errors
    /// When there is none, or a key is missing.
    pub async fn secret_named(
        &self,
        caller: &Caller,
        environment: EnvironmentId,
        name: &str,
        required_keys: &[String],
    ) -> Result<SecretInfo, AppsError> {
        let catalog = &self.inner.catalog;
        let found = catalog.secret_named(caller.workspace, environment, name.to_owned()).await?;
        let found = info(found)?;
        let lacks = |key: &&String| !found.detail.keys.contains(key);
        let missing: Vec<&str> = required_keys.iter().filter(lacks).map(String::as_str).collect();
        if !missing.is_empty() {
            let (name, missing) = (name.to_owned(), missing.join(", "));
            return Err(AppsError::MissingKeys { name, missing });
        }
        Ok(found)
    }

    /// The secrets with a name, by name.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn secrets(
        &self,
        caller: &Caller,
        environment: EnvironmentId,
    ) -> Result<Vec<SecretInfo>, AppsError> {
        let found = self.inner.catalog.list_secrets(caller.workspace, environment).await?;
        found.into_iter().map(info).collect()
    }

    /// Removes a secret; containers that have it keep it.
    ///
    /// # Errors
    /// When there is none.
    pub async fn remove_secret(&self, caller: &Caller, id: SecretId) -> Result<(), AppsError> {
        require(caller, Scope::Write)?;
        Ok(self.inner.catalog.remove_secret(caller.workspace, id).await?)
    }

    /// The variables of these secrets, later ones over earlier ones, for a container of this
    /// workspace.
    ///
    /// # Errors
    /// When one is not there, or was sealed with another key.
    pub async fn secret_values(
        &self,
        caller: &Caller,
        ids: &[SecretId],
    ) -> Result<BTreeMap<String, SecretValue>, AppsError> {
        let mut all = BTreeMap::new();
        for id in ids {
            let record = self.inner.catalog.secret(caller.workspace, *id).await?;
            all.extend(self.open_values(caller, &record)?);
        }
        Ok(all)
    }

    fn open_values(
        &self,
        caller: &Caller,
        record: &SecretRecord,
    ) -> Result<BTreeMap<String, SecretValue>, AppsError> {
        let refuse = || AppsError::Sealed { secret: record.id.to_string() };
        let place = place(caller, record.id);
        let values = self.inner.key.open_sealed(&place, &record.sealed).ok_or_else(refuse)?;
        serde_json::from_slice(&values).map_err(|_| refuse())
    }
}

/// What a sealed value is bound to: moved to another secret or workspace it does not open.
fn place(caller: &Caller, id: SecretId) -> [u8; 32] {
    let mut place = [0; 32];
    place[..16].copy_from_slice(&caller.workspace.as_u128().to_be_bytes());
    place[16..].copy_from_slice(&id.as_u128().to_be_bytes());
    place
}

fn info(record: SecretRecord) -> Result<SecretInfo, AppsError> {
    let detail = serde_json::from_str(&record.detail_json)
        .map_err(|source| AppsError::Document { what: "a secret's keys", source })?;
    let SecretRecord { id, environment, name, created, .. } = record;
    Ok(SecretInfo { id, environment, name, created, detail })
}

fn check_values(values: &BTreeMap<String, SecretValue>) -> Result<(), AppsError> {
    let at_most = |what, found, most| {
        if found > most { Err(AppsError::TooLarge { what, found, most }) } else { Ok(()) }
    };
    at_most("the number of variables", values.len(), MAX_VARIABLES)?;
    let mut bytes = 0;
    for (key, value) in values {
        at_most("the name of a variable", key.len(), MAX_KEY_BYTES)?;
        if key.is_empty() || key.contains(['=', '\0']) || value.expose().contains('\0') {
            return Err(AppsError::Name {
                what: "a variable",
                text: key.clone(),
                reason: "it has neither `=` nor a zero byte, nor has its value".to_owned(),
            });
        }
        bytes += key.len() + value.expose().len();
    }
    at_most("a secret's size in bytes", bytes, MAX_VALUES_BYTES)
}
