//! Opening an endpoint's models before they are asked, and letting go of them afterwards.

use std::collections::HashMap;
use std::sync::PoisonError;

use corral_types::{BlobHash, Caller, Name};

use crate::route::{Route, Serves};
use crate::{Serving, ServingError};

impl Serving {
    /// Opens what an endpoint's traffic needs to be answered, so that the first request finds
    /// it open. Blocking: an encoder is read whole.
    ///
    /// # Errors
    /// When there is no such endpoint in the caller's workspace, or it cannot be opened.
    pub fn warm(&self, caller: &Caller, endpoint: &Name) -> Result<(), ServingError> {
        let route = self.route(caller.workspace, endpoint)?;
        for (file, encoder) in files(&route) {
            self.shared.opened.model(file)?;
            if let Some(encoder) = encoder {
                self.shared.opened.encoder(encoder)?;
            }
        }
        Ok(())
    }

    /// Lets go of the models of an endpoint's traffic, but for those that another endpoint's
    /// traffic needs; the next request opens them again. Encoders stay, being shared.
    ///
    /// # Errors
    /// When there is no such endpoint in the caller's workspace.
    pub fn cool(&self, caller: &Caller, endpoint: &Name) -> Result<(), ServingError> {
        let route = self.route(caller.workspace, endpoint)?;
        let routes = self.shared.routes.read().unwrap_or_else(PoisonError::into_inner);
        let others = routes.values().flat_map(HashMap::values);
        let others = others.filter(|other| other.endpoint != route.endpoint);
        let needed: Vec<BlobHash> =
            others.flat_map(|other| files(other)).map(|(file, _)| file).collect();
        for (file, _) in files(&route) {
            if !needed.contains(&file) {
                self.shared.opened.close_model(file);
            }
        }
        Ok(())
    }
}

/// The model files that a route's traffic reaches, with their encoders.
fn files(route: &Route) -> impl Iterator<Item = (BlobHash, Option<BlobHash>)> {
    route.reached().filter_map(|number| match route.version(number) {
        Serves::Model { file, encoder, .. } => Some((*file, *encoder)),
        Serves::Fixed(_) => None,
    })
}
