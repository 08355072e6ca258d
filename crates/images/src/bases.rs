//! Bases, made when the first image needs them, with installers over them.

use std::path::{Path, PathBuf};

use crate::base::{BaseAbout, BaseKind, debian};
use crate::error::BuildError;
use crate::files::{link_tree, make_directory};
use crate::images::{Images, lock};
use crate::log::{BuildLog, say};
use crate::packages::{Freshness, Request, installed};
use crate::satisfied::INSTALLERS;
use crate::store::Layer;
use crate::view::View;

/// A base that is there.
#[derive(Clone)]
pub struct Made {
    pub about: BaseAbout,
    /// The installers over the base itself, top first.
    pub layers: Vec<Layer>,
    /// The base itself.
    pub tree: PathBuf,
}

impl Images {
    /// A base, made if it is not there.
    pub(crate) fn base(&self, kind: &BaseKind, log: &dyn BuildLog) -> Result<Made, BuildError> {
        if let Some(made) = lock(&self.bases).get(kind) {
            return Ok(made.clone());
        }
        let wait = || say(log, "waits for a base that is being made");
        self.bases_made.once(kind.clone(), wait, || {
            let made = self.make_base(kind, log)?;
            lock(&self.bases).insert(kind.clone(), made.clone());
            Ok(made)
        })
    }

    fn make_base(&self, kind: &BaseKind, log: &dyn BuildLog) -> Result<Made, BuildError> {
        let id = kind.id(self.host()).map_err(BuildError::refused)?;
        let layer = match self.store.get(&id) {
            Some(layer) => layer,
            None => {
                let scratch = self.store.scratch()?;
                let tree = scratch.path().join("tree");
                let about = match (kind, self.host()) {
                    (BaseKind::Host, Ok(host)) => {
                        make_directory(scratch.path(), Path::new("tree"))
                            .map_err(BuildError::io("make", &tree))?;
                        host.make(&tree, log)?
                    }
                    (BaseKind::Host, Err(why)) => return Err(BuildError::refused(why)),
                    (BaseKind::Debian { suite }, _) => {
                        debian::make(suite, &tree, &self.machine, log)?
                    }
                };
                let note = serde_json::to_value(&about).expect("texts can be written as JSON");
                self.store.adopt(&id, &tree, note)?
            }
        };
        let about: BaseAbout =
            serde_json::from_value(layer.note.clone()).map_err(|error| BuildError::Tool {
                what: format!("the base {id} is damaged: {error}"),
                output: String::new(),
            })?;
        let tree = layer.tree.clone();
        let mut made = Made { about, layers: vec![layer], tree };
        let installers = self.installers(&made, log)?;
        made.layers.insert(0, installers);
        Ok(made)
    }

    /// pip and its like, for a base.
    fn installers(&self, made: &Made, log: &dyn BuildLog) -> Result<Layer, BuildError> {
        let series = &made.about.python_series;
        let id = format!("installers-{series}-{}", made.about.glibc_version);
        if let Some(layer) = self.store.get(&id) {
            return Ok(layer);
        }
        let packages = self.packages(made, log)?;
        let minor: Option<u32> = series.split('.').nth(1).and_then(|minor| minor.parse().ok());
        // As in the images of Python that these stand for.
        let wanted = INSTALLERS.iter().filter(|name| **name != "setuptools" || minor < Some(12));
        let requirements = wanted.map(|name| (*name).to_owned()).collect();
        let request = Request { requirements, ..Request::default() };
        let view = View { layers: vec![made.tree.clone()] };
        let there = installed(&view, &Path::new("/").join(packages.target.packages_path()));
        let pins = packages.resolve(&request, &there, Freshness::Cached, log);
        let layer = pins.and_then(|pins| packages.layer(&pins, log));
        let what = format!("the installers of Python {series} cannot be fetched");
        let layer = layer.map_err(|failure| failure.into_error(&what))?;
        // Kept by a name of their own, so that a later start asks no index for them.
        let scratch = self.store.scratch()?;
        let tree = scratch.path().join("tree");
        let bytes = link_tree(&layer.tree, &tree).map_err(BuildError::io("link", &layer.tree))?;
        self.store.adopt_counted(&id, &tree, bytes, serde_json::Value::Null)
    }
}
