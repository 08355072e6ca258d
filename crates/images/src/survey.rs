//! What images on a machine can begin with: for `corral doctor`, which asks beside a worker that
//! has the images open.

use std::path::Path;

use crate::base::{BaseKind, Offers, host};
use crate::options::BaseChoice;

/// A Python that images can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonOffer {
    /// Such as `3.11`.
    pub series: String,
    /// What it comes with, such as `the host's system files` or `Debian bookworm`.
    pub base: String,
    /// Whether that base is made already; otherwise the first image that needs it makes it.
    pub ready: bool,
}

/// The Pythons of a machine, and why there are no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    pub pythons: Vec<PythonOffer>,
    /// A sentence for each kind of base that cannot be made here.
    pub missing: Vec<String>,
}

/// Looks at this machine, and at the directory of images as far as it is there.
pub fn survey(dir: &Path, choice: BaseChoice) -> Survey {
    look(dir, choice, &host::find())
}

pub(crate) fn look(dir: &Path, choice: BaseChoice, host: &Result<host::Host, String>) -> Survey {
    let offers = Offers::of(host);
    let is_chosen = |kind: &BaseKind| match choice {
        BaseChoice::Auto => true,
        BaseChoice::Host => *kind == BaseKind::Host,
        BaseChoice::Debian => *kind != BaseKind::Host,
    };
    let mut pythons = Vec::new();
    for (kind, series) in offers.all().into_iter().filter(|(kind, _)| is_chosen(kind)) {
        let ready = kind.id(host).is_ok_and(|id| dir.join("layers").join(id).exists());
        pythons.push(PythonOffer { series, base: kind.words(), ready });
    }
    let mut missing = Vec::new();
    missing.extend(offers.host.err().filter(|_| is_chosen(&BaseKind::Host)));
    missing.extend(offers.debian.err().filter(|_| choice != BaseChoice::Host));
    Survey { pythons, missing }
}
