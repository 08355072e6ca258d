//! The one version of an endpoint that a job asks from its beginning to its end, wherever the
//! endpoint's traffic is led meanwhile.

use corral_types::{BlobHash, Caller, Name};

use crate::route::Serves;
use crate::routing::Selector;
use crate::{Serving, ServingError};

/// A version of an endpoint and the model that answers for it.
#[derive(Clone, Debug)]
pub struct Pinned {
    pub endpoint_version: u32,
    /// The model and its version.
    pub model: (Name, u32),
    pub file: BlobHash,
    pub encoder: Option<BlobHash>,
}

impl Serving {
    /// The version that is named, else the one that gets all requests.
    ///
    /// # Errors
    /// When there is no such endpoint or version, several versions share the requests and none is
    /// named, or the version's answer is fixed.
    pub fn pin(
        &self,
        caller: &Caller,
        endpoint: &Name,
        version: Option<&Selector>,
    ) -> Result<Pinned, ServingError> {
        let route = self.route(caller.workspace, endpoint)?;
        let reached: Vec<u32> = route.reached().collect();
        let number = match (version, reached.as_slice()) {
            (Some(_), _) => route.pick(version, None)?,
            (None, &[number]) => number,
            (None, _) => {
                let (endpoint, versions) = (endpoint.to_string(), reached);
                return Err(ServingError::Shared { endpoint, versions });
            }
        };
        match route.version(number) {
            Serves::Model { name, version, file, encoder, .. } => Ok(Pinned {
                endpoint_version: number,
                model: (name.clone(), *version),
                file: *file,
                encoder: *encoder,
            }),
            Serves::Fixed(_) => Err(ServingError::NoModel { name: format!("{endpoint}/{number}") }),
        }
    }
}
