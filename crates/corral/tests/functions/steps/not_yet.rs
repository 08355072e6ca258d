//! What this server does not do yet, where a program of its own has to be started for it.

use crate::stage::{Stage, Tried};

pub fn not_yet(stage: &Stage<'_>, tried: &mut Tried) {
    for (part, file) in [("web endpoint", "not_yet_web.py"), ("schedule", "not_yet_schedule.py")] {
        tried.part(part, || {
            stage.said(&["run", file])?;
            Ok(())
        });
    }
}
