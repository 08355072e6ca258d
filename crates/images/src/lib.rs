//! From recipes to directories: what an [`ImageRecipe`](corral_containers::ImageRecipe) says is
//! built once and then laid under every container of that image.
//!
//! ```text
//! recipe ──► base (the host's own system files, or Debian's packages)
//!              └─► steps ──► layers: directories, as overlay makes and reads them
//!                    ├ RUN       in a container, by the [`StepRunner`] that is handed in
//!                    ├ COPY, ADD by the builder, from files by content
//!                    └ pip, uv   by the builder, as links into the store of packages
//! ```
//!
//! **Owners of files.** A file in a layer has the ids that it has in the container: what root
//! unpacked belongs to root. Whoever starts containers shifts ids by its mounts, so no layer is
//! tied to a range of ids. The directory of the images is closed to other users of the machine.
//!
//! **Nothing of the machine stays in a layer.** Its certificates, package index and proxies reach
//! steps as variables and as files that are laid over ([`Machine`]).
//!
//! **Whole or not at all.** A layer is made in a scratch folder and moved when it is whole; what
//! a killed builder left there is removed when the images are opened again.

mod base;
mod bases;
mod build;
mod bundle;
mod config;
mod copy;
mod dockerfile;
mod error;
mod files;
mod flight;
mod images;
mod log;
mod machine;
mod mounts;
mod options;
mod packages;
mod ready;
mod satisfied;
mod step;
mod store;
mod survey;
mod tool;
mod tree;
mod view;

pub use build::ADD_PYTHON;
pub use error::BuildError;
pub use images::{Images, LaidOut};
pub use log::{BuildLine, BuildLog, LineSource, Silent};
pub use options::{BaseChoice, Files, ImagesOptions};
pub use ready::{ClientBundle, ClientVersion, ImageMetadata, ReadyImage};
pub use step::{Access, Bind, StepEnd, StepProcess, StepRunner};
pub use store::Hold;
pub use survey::{PythonOffer, Survey, survey};
