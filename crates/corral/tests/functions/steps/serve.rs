//! An app that is served while its source is edited.

use std::fs;

use anyhow::Context;

use crate::stage::{COMMAND_LIMIT, Stage, Tried, scripts};

pub fn serve(stage: &Stage<'_>, tried: &mut Tried) {
    tried.part("serve", || {
        let source = fs::read_to_string(scripts().join("served.py"))?;
        let file = stage.scratch().join("served.py");
        fs::write(&file, &source)?;
        let mut served = stage.modal(&["serve", file.to_str().context("a path in UTF-8")?]);
        served.line("version 1 is here", COMMAND_LIMIT)?;
        fs::write(&file, source.replace("VERSION = 1", "VERSION = 2"))?;
        served.line("version 2 is here", COMMAND_LIMIT)?;
        served.signal("INT");
        served.end(COMMAND_LIMIT)?;
        Ok(())
    });
}
