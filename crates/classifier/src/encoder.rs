//! The port behind which sentence encoders stand.

use corral_types::BlobHash;

/// A sentence-embedding network.
///
/// The same text gives the same vector whatever texts stand beside it in a batch, up to
/// the rounding of the arithmetic.
pub trait Encoder: Send + Sync {
    /// The hash of the file the encoder was opened from. A model file names its encoder by it.
    fn id(&self) -> BlobHash;

    /// A name for people, such as `all-MiniLM-L6-v2`.
    fn name(&self) -> &str;

    /// The length of an embedding.
    fn dimension(&self) -> usize;

    /// Writes the L2-normalised embeddings of `texts`, row after row, to `out`, which has
    /// `texts.len() * dimension()` places. Texts beyond the network's length are cut.
    fn encode(&self, texts: &[&str], out: &mut [f32]);
}
