//! Images as clients define them: a chain of definitions, which becomes a recipe.

use std::collections::BTreeMap;

use corral_catalog::ImageRecord;
use corral_containers::{Base, BuildStep, ContextFile, FileTree, ImageRecipe};
use corral_types::{BlobHash, Caller, FunctionId, ImageId, MountId, Scope, SecretId};
use serde::{Deserialize, Serialize};

use crate::identity::derived_id;
use crate::{Apps, AppsError, require};

/// Links of one chain at most: each is a layer of the container's file system.
const MAX_CHAIN: usize = 128;

/// What an image begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageBase {
    /// As it stands behind `FROM`.
    Reference(String),
    Image(ImageId),
}

/// A run of a function, which makes a layer of what it writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionRun {
    /// As it was defined by who asked first: another with the same code makes the same image.
    pub function: FunctionId,
    /// The hash of its code, what that refers to, and its arguments.
    pub digest: BlobHash,
    pub arguments: Vec<u8>,
    /// The client's number of the format of the arguments.
    pub data_format: u32,
}

/// One link of the chain, as the client sent it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageDefinition {
    pub base: ImageBase,
    /// Dockerfile commands without the first `FROM`.
    pub commands: Vec<String>,
    pub context_files: Vec<ContextFile>,
    pub context: Option<MountId>,
    pub build_arguments: BTreeMap<String, String>,
    pub secrets: Vec<SecretId>,
    /// A function that is run over what is below.
    #[serde(default)]
    pub run: Option<FunctionRun>,
    /// A fresh number makes another image of it.
    pub force_build: Option<u64>,
    pub builder_version: String,
    /// The client that sent it.
    pub client_version: String,
}

impl Apps {
    /// Notes an image; the same definition is the same image.
    ///
    /// # Errors
    /// When its base, mount or a secret is not there.
    pub async fn put_image(
        &self,
        caller: &Caller,
        definition: &ImageDefinition,
    ) -> Result<ImageId, AppsError> {
        require(caller, Scope::Write)?;
        let catalog = &self.inner.catalog;
        if let ImageBase::Image(base) = definition.base {
            catalog.image(caller.workspace, base).await?;
        }
        if let Some(context) = definition.context {
            catalog.mount(caller.workspace, context).await?;
        }
        for secret in &definition.secrets {
            catalog.secret(caller.workspace, *secret).await?;
        }
        // The client that sent it first is noted; it does not make another image.
        let mut keyed = ImageDefinition { client_version: String::new(), ..definition.clone() };
        if let Some(run) = &mut keyed.run {
            run.function = FunctionId::from_u128(0);
        }
        let keyed = serde_json::to_vec(&keyed).expect("a definition is JSON");
        let id = derived_id(caller.workspace, &[b"image", &keyed]);
        let record = ImageRecord {
            id,
            created: self.inner.clock.now(),
            recipe_json: serde_json::to_string(definition).expect("a definition is JSON"),
        };
        catalog.put_image(caller.workspace, record).await?;
        Ok(id)
    }

    /// An image as it was defined.
    ///
    /// # Errors
    /// When there is none.
    pub async fn image(&self, caller: &Caller, id: ImageId) -> Result<ImageDefinition, AppsError> {
        let record = self.inner.catalog.image(caller.workspace, id).await?;
        serde_json::from_str(&record.recipe_json)
            .map_err(|source| AppsError::Document { what: "an image's definition", source })
    }

    /// The recipe of an image, with all below it, its context's files and the values of its
    /// secrets.
    ///
    /// # Errors
    /// When something of it is not there, or the chain is too long.
    pub async fn recipe(&self, caller: &Caller, id: ImageId) -> Result<ImageRecipe, AppsError> {
        let mut chain = vec![self.image(caller, id).await?];
        while let Some(ImageBase::Image(below)) = chain.last().map(|link| &link.base) {
            if chain.len() == MAX_CHAIN {
                return Err(AppsError::ImageChain { most: MAX_CHAIN });
            }
            chain.push(self.image(caller, *below).await?);
        }
        let mut below: Option<ImageRecipe> = None;
        for link in chain.into_iter().rev() {
            let context: Option<FileTree> = match link.context {
                Some(mount) => Some(self.mount(caller, mount).await?.tree),
                None => None,
            };
            let base = match (below.take(), link.base) {
                (Some(image), _) => Base::Image { image: Box::new(image) },
                (None, ImageBase::Reference(reference)) => Base::Reference { reference },
                (None, ImageBase::Image(image)) => {
                    let text = image.to_string();
                    return Err(AppsError::Id { what: "the image", text });
                }
            };
            let step = BuildStep {
                commands: link.commands,
                context_files: link.context_files,
                context,
                build_arguments: link.build_arguments,
                secrets: self.secret_values(caller, &link.secrets).await?,
                run: link.run.map(|run| run.digest),
            };
            below = Some(ImageRecipe { base, step, force_build: link.force_build });
        }
        below.ok_or(AppsError::ImageChain { most: MAX_CHAIN })
    }
}
