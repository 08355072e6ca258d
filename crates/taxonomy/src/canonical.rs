//! The canonical JSON of a taxonomy: what is stored, hashed and exported.

use serde::Serialize;

use crate::{Format, ParseOptions, Taxonomy, TaxonomyError, parse};

/// The version of the document's shape; a newer one is refused.
pub(crate) const FORMAT_VERSION: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    format_version: u32,
    classes: Vec<ClassDocument<'a>>,
}

/// Fields in this order, empty ones left out: the order is part of the hash.
#[derive(Serialize)]
struct ClassDocument<'a> {
    id: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    examples: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<&'a str>,
}

impl Taxonomy {
    /// The canonical JSON: classes in order, parents by id, no white space.
    pub fn to_json(&self) -> Vec<u8> {
        let classes = self
            .classes()
            .iter()
            .map(|class| ClassDocument {
                id: &class.id,
                name: &class.name,
                description: class.description.as_deref(),
                examples: &class.examples,
                parent: class.parent.map(|parent| self.class(parent).id.as_str()),
            })
            .collect();
        serde_json::to_vec(&Document { format_version: FORMAT_VERSION, classes })
            .expect("text and numbers are JSON")
    }

    /// The taxonomy that [`Self::to_json`] wrote.
    ///
    /// # Errors
    /// When the bytes are not such a document, or one of a newer format.
    pub fn from_json(bytes: &[u8]) -> Result<Self, TaxonomyError> {
        let options = ParseOptions { format: Some(Format::Json), ..ParseOptions::default() };
        parse("taxonomy.json", bytes, &options)
    }
}
