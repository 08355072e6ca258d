//! What the edge needs to be done about images by someone else.

use std::pin::Pin;
use std::time::Duration;

use corral_apps::FunctionRun;
use corral_containers::{ContainerLine, ImageRecipe};
use corral_types::{Failure, ImageId, WorkspaceId};

/// An image that is to be there.
#[derive(Clone, Debug)]
pub struct ImageWanted {
    pub workspace: WorkspaceId,
    pub image: ImageId,
    pub recipe: ImageRecipe,
    /// The version of the client that defined it.
    pub client_version: String,
    /// The image builder's version of that client.
    pub builder_version: String,
    /// The function that makes it.
    pub run: Option<FunctionRun>,
}

/// What is known of an image that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuiltImage {
    /// As `python -VV` begins, such as `Python 3.11.9`; none where there is no Python.
    pub python_version: Option<String>,
    pub working_directory: Option<String>,
    /// Such as `glibc 2.41`.
    pub libc_version: Option<String>,
}

/// How far an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildStatus {
    Running,
    Built(BuiltImage),
    /// In words, with the command that failed and the end of its output.
    Failed {
        message: String,
    },
}

/// What a build has written, and how far it is.
#[derive(Clone, Debug)]
pub struct BuildProgress {
    /// Lines after those that were asked for.
    pub lines: Vec<ContainerLine>,
    /// The number of the last line, counted from 1; 0 before the first.
    pub last: u64,
    pub status: BuildStatus,
}

/// An answer that comes later.
pub type BuildAnswer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// Whoever builds images.
pub trait ImageBuilds: Send + Sync + 'static {
    /// Makes sure that the image is built or being built, and says how far it is. An image that
    /// failed is tried again.
    fn begin(&self, wanted: ImageWanted) -> BuildAnswer<'_, BuildStatus>;

    /// What the build of an image wrote after line number `after`, waiting at most `wait` for a
    /// line or its end.
    ///
    /// # Errors
    /// Of kind `NotFound` for an image that was not begun since the server started.
    fn follow(
        &self,
        workspace: WorkspaceId,
        image: ImageId,
        after: u64,
        wait: Duration,
    ) -> BuildAnswer<'_, BuildProgress>;
}
