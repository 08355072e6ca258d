//! Images as recipes: a base and the steps over it.

use std::collections::BTreeMap;
use std::fmt;

use corral_types::BlobHash;
use serde::{Deserialize, Serialize};

use crate::{FileTree, SecretValue};

/// What an image begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "base", rename_all = "snake_case")]
pub enum Base {
    /// A reference as it stands behind `FROM`, such as `python:3.11-slim-trixie`: which base of
    /// the machine stands for it is the worker's choice.
    Reference { reference: String },
    /// Another image.
    Image { image: Box<ImageRecipe> },
}

/// A file that travels with the recipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextFile {
    pub name: String,
    pub bytes: Vec<u8>,
}

/// One group of Dockerfile commands over what is below.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildStep {
    /// Dockerfile commands, a line each, without `FROM`.
    pub commands: Vec<String>,
    pub context_files: Vec<ContextFile>,
    /// What `COPY` reads.
    pub context: Option<FileTree>,
    pub build_arguments: BTreeMap<String, String>,
    /// Variables that commands see and no layer keeps.
    pub secrets: BTreeMap<String, SecretValue>,
    /// Set where what a function writes makes the layer, after the commands: the hash of what is
    /// run. It runs in a container of its own ([`ContainerSpec::commit`](crate::ContainerSpec)).
    #[serde(default)]
    pub run: Option<BlobHash>,
}

/// How an image is made: a base, and steps over it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecipe {
    pub base: Base,
    pub step: BuildStep,
    /// Builds it even where it is there; a fresh number makes another image of it.
    pub force_build: Option<u64>,
}

/// The hash of everything in a recipe that can change what comes out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageKey(pub BlobHash);

impl fmt::Display for ImageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ImageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ImageRecipe {
    /// The key of this image. The values of secrets do not count, their names do.
    pub fn key(&self) -> ImageKey {
        let mut hasher = blake3::Hasher::new_derive_key("corral 2026 key of an image's recipe");
        let mut part = |tag: &str, bytes: &[u8]| {
            for piece in [tag.as_bytes(), bytes] {
                hasher.update(&(piece.len() as u64).to_le_bytes());
                hasher.update(piece);
            }
        };
        match &self.base {
            Base::Reference { reference } => part("reference", reference.as_bytes()),
            Base::Image { image } => part("image", image.key().0.as_bytes()),
        }
        for command in &self.step.commands {
            part("command", command.as_bytes());
        }
        for file in &self.step.context_files {
            part("file", file.name.as_bytes());
            part("bytes", &file.bytes);
        }
        if let Some(context) = &self.step.context {
            part("context", context.key().as_bytes());
        }
        for (name, value) in &self.step.build_arguments {
            part("argument", name.as_bytes());
            part("value", value.as_bytes());
        }
        for name in self.step.secrets.keys() {
            part("secret", name.as_bytes());
        }
        if let Some(run) = &self.step.run {
            part("run", run.as_bytes());
        }
        if let Some(force) = self.force_build {
            part("force", &force.to_le_bytes());
        }
        ImageKey(hasher.finalize().into())
    }

    /// The recipes from the base up, this one last.
    pub fn chain(&self) -> Vec<&ImageRecipe> {
        let mut chain = vec![self];
        let mut below = self;
        while let Base::Image { image } = &below.base {
            chain.push(image);
            below = image;
        }
        chain.reverse();
        chain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(command: &str) -> ImageRecipe {
        ImageRecipe {
            base: Base::Reference { reference: "python:3.11-slim".into() },
            step: BuildStep { commands: vec![command.into()], ..BuildStep::default() },
            force_build: None,
        }
    }

    #[test]
    fn the_key_follows_what_can_change_the_image() {
        let first = recipe("RUN true");
        assert_eq!(first.key(), recipe("RUN true").key());
        assert_ne!(first.key(), recipe("RUN false").key());
        let over = |below: &ImageRecipe| ImageRecipe {
            base: Base::Image { image: Box::new(below.clone()) },
            ..recipe("ENV A=b")
        };
        assert_ne!(over(&first).key(), over(&recipe("RUN false")).key());
        assert_eq!(over(&first).chain().len(), 2);

        let with_secret = |value: &str| {
            let mut recipe = recipe("RUN true");
            recipe.step.secrets.insert("TOKEN".into(), SecretValue::new(value.into()));
            recipe
        };
        assert_eq!(with_secret("a").key(), with_secret("b").key());
        assert_ne!(with_secret("a").key(), first.key());
        assert!(!format!("{:?}", with_secret("hush")).contains("hush"));
    }
}
