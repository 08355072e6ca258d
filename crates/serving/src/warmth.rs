//! Opening an endpoint's models before they are asked, and letting go of them afterwards.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use corral_types::{BlobHash, Caller, Name, Timestamp};

use crate::route::{Route, Serves};
use crate::{Serving, ServingError};

/// How often it is looked what is to be open: a schedule is followed so closely.
const LOOK_EVERY: Duration = Duration::from_secs(5);

impl Serving {
    /// Opens what an endpoint's traffic needs to be answered, so that the first request finds
    /// it open. Blocking: an encoder is read whole.
    ///
    /// # Errors
    /// When there is no such endpoint in the caller's workspace, or it cannot be opened.
    pub fn warm(&self, caller: &Caller, endpoint: &Name) -> Result<(), ServingError> {
        let route = self.route(caller.workspace, endpoint)?;
        files(&route).try_for_each(|(file, encoder)| self.open_files(file, encoder))
    }

    fn open_files(&self, file: BlobHash, encoder: Option<BlobHash>) -> Result<(), ServingError> {
        let opened = &self.shared.opened;
        let (model, _) = opened.model(file)?;
        if let Err(error) = model.model.read_ahead() {
            // It is read when it is asked for.
            tracing::debug!(%error, "a model is not read ahead");
        }
        encoder.map(|encoder| opened.encoder(encoder)).transpose()?;
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

    /// Keeps open what endpoints want kept at the time, and closes what nobody asked for in a
    /// while; for ever.
    pub async fn keep_warm(&self) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let serving = self.clone();
            let looked = tokio::task::spawn_blocking(move || serving.look(Timestamp::now()));
            if let Err(error) = looked.await {
                tracing::error!(%error, "models are not kept warm");
            }
        }
    }

    /// Does once what is to be done at this moment. Blocking.
    fn look(&self, now: Timestamp) {
        let due: Vec<Arc<Route>> = {
            let routes = self.shared.routes.read().unwrap_or_else(PoisonError::into_inner);
            let all = routes.values().flat_map(HashMap::values);
            let due = all.filter(|route| route.keep_warm().is_some_and(|keep| keep.is_due(now)));
            due.cloned().collect()
        };
        let (mut models, mut encoders) = (HashSet::new(), HashSet::new());
        for route in &due {
            for (file, encoder) in files(route) {
                models.insert(file);
                encoders.extend(encoder);
            }
        }
        let newly = self.shared.opened.keep(models, encoders);
        for route in &due {
            for (file, encoder) in files(route).filter(|(file, _)| newly.contains(file)) {
                if let Err(error) = self.open_files(file, encoder) {
                    tracing::warn!(endpoint = %route.name, %error, "not kept warm");
                }
            }
        }
        self.shared.opened.tell();
    }
}

/// The model files that a route's traffic reaches, with their encoders.
fn files(route: &Route) -> impl Iterator<Item = (BlobHash, Option<BlobHash>)> {
    route.reached().filter_map(|number| match route.version(number) {
        Serves::Model { file, encoder, .. } => Some((*file, *encoder)),
        Serves::Fixed(_) => None,
    })
}
