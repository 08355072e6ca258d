//! What becomes of the outputs of jobs, by kind.

use corral_jobs::{Completing, FinishedWork, JobCompletion};

use crate::batch_job::{self, BATCH_KIND};
use crate::label_job::{self, LABEL_KIND};
use crate::state::Stores;
use crate::training_job::{self, TRAIN_KIND};

/// Registers what jobs made. Kinds without records of their own keep their result as it is.
pub struct Registrar(pub Stores);

impl JobCompletion for Registrar {
    fn complete(&self, work: FinishedWork) -> Completing<'_> {
        Box::pin(async move {
            match work.kind.as_str() {
                TRAIN_KIND => training_job::register(&self.0, work).await,
                BATCH_KIND => batch_job::register(&self.0, work).await,
                LABEL_KIND => label_job::register(&self.0, work).await,
                _ => Ok(work.result),
            }
        })
    }
}
