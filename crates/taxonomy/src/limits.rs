//! The sizes beyond which a taxonomy is refused, and why each is what it is.

/// Classes in one taxonomy: ten thousand leaves and room for the parents above them; a model's
/// weights and every per-class report grow with this number.
pub const MAX_CLASSES: usize = 16_384;

/// Classes on the way from a root to a leaf, both counted: deeper trees are a mistake in the
/// file (a chain) rather than a taxonomy, and reports print one column a level.
pub const MAX_DEPTH: usize = 32;

/// The bytes of an id or a name: both are repeated in answers and tables.
pub const MAX_NAME_BYTES: usize = 512;

/// The bytes of a description: more than an encoder reads many times over.
pub const MAX_DESCRIPTION_BYTES: usize = 16 * 1024;

/// Examples of one class: beyond this they are a data set, and belong into one.
pub const MAX_EXAMPLES: usize = 1_000;

/// The bytes of one example, as of a description.
pub const MAX_EXAMPLE_BYTES: usize = 16 * 1024;

/// The bytes of a file: it is parsed in memory.
pub const MAX_FILE_BYTES: usize = 64 << 20;

/// Lists and objects within each other in a JSON or YAML file: two for each level of classes,
/// and some to spare.
pub const MAX_NESTING: usize = 2 * MAX_DEPTH + 16;

/// Columns of a CSV or TSV file.
pub const MAX_COLUMNS: usize = 1_000;

/// Problems listed in one error; the others are only counted.
pub const MAX_PROBLEMS_LISTED: usize = 1_000;

/// Names searched for ones like them: each search reads every name of the taxonomy.
pub const MAX_NAMES_WITH_NEAREST: usize = 20;

/// Longer texts are not searched for: the time of a search grows with the square of the length.
pub const MAX_CHARS_WITH_NEAREST: usize = 64;

/// Nearest names given for one that is not known.
pub const MAX_NEAREST: usize = 3;

/// Members of a cycle that are printed; a longer one is cut.
pub(crate) const MAX_CYCLE_MEMBERS_PRINTED: usize = 20;
