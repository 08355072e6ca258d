//! Functions and classes of apps.

use corral_types::{AppId, ClsId, FunctionId, Timestamp, WorkspaceId};

use super::Answer;

/// The largest definition of a function: clients refuse pickled functions beyond 16 MiB, and a
/// class may come with one.
pub const MAX_DEFINITION_BYTES: usize = 40 << 20;

/// The largest document of settings of a definition.
pub const MAX_FUNCTION_JSON_BYTES: usize = 1 << 20;

/// The largest parameters and options of a bound function.
pub const MAX_BINDING_BYTES: usize = 4 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionRecord {
    pub id: FunctionId,
    pub app: AppId,
    /// Its name in the app; a cls has one function `NAME.*`.
    pub tag: String,
    pub created: Timestamp,
    /// The function whose definition this one follows, with its own parameters and options.
    pub bound: Option<Binding>,
    /// The definition that counts, 0 before it was published.
    pub definition: u32,
    /// The newest definition, 0 before the first.
    pub latest: u32,
}

/// A function with parameters and options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    pub base: FunctionId,
    pub parameters: Vec<u8>,
    pub options: Vec<u8>,
}

/// One definition of a function; it never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionRecord {
    /// Counted from 1.
    pub number: u32,
    pub created: Timestamp,
    /// A document of the service; the catalog does not look inside.
    pub settings_json: String,
    /// What the client said, as it said it.
    pub definition: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDefinition {
    pub created: Timestamp,
    pub settings_json: String,
    pub definition: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClsRecord {
    pub id: ClsId,
    pub app: AppId,
    pub created: Timestamp,
    /// A document of the service; the catalog does not look inside.
    pub detail_json: String,
}

pub trait FunctionRecords {
    /// Makes a function without a definition, or a bound one; the same again changes nothing.
    ///
    /// # Errors
    /// When the app or the base is not there, or the id belongs to something else.
    fn create_function(
        &self,
        workspace: WorkspaceId,
        new: FunctionRecord,
    ) -> Answer<'_, FunctionRecord>;

    /// Adds a definition that counts once it is published. The same as the newest one is that
    /// one.
    fn add_definition(
        &self,
        workspace: WorkspaceId,
        id: FunctionId,
        new: NewDefinition,
    ) -> Answer<'_, FunctionRecord>;

    fn function(&self, workspace: WorkspaceId, id: FunctionId) -> Answer<'_, FunctionRecord>;

    fn definition(
        &self,
        workspace: WorkspaceId,
        id: FunctionId,
        number: u32,
    ) -> Answer<'_, DefinitionRecord>;

    /// All functions of an app, bound ones too, oldest first.
    fn functions_of_app(
        &self,
        workspace: WorkspaceId,
        app: AppId,
    ) -> Answer<'_, Vec<FunctionRecord>>;

    /// Makes a class, or replaces what is said of it.
    fn put_cls(&self, workspace: WorkspaceId, cls: ClsRecord) -> Answer<'_, ()>;

    fn cls(&self, workspace: WorkspaceId, id: ClsId) -> Answer<'_, ClsRecord>;
}
