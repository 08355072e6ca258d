//! Images that are kept, built again, or cannot be built.

use anyhow::{Context, Result, ensure};

use crate::stage::{COMMAND_LIMIT, Stage, Tried};

/// What the two functions of `image_forced.py` find in their images.
fn stamps(stage: &Stage<'_>) -> Result<(String, String)> {
    let said = stage.said(&["run", "image_forced.py"])?;
    let stamp = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(name));
        line.map(|stamp| stamp.trim().to_owned()).with_context(|| format!("no {name} in {said}"))
    };
    Ok((stamp("kept ")?, stamp("forced ")?))
}

pub fn images(stage: &Stage<'_>, tried: &mut Tried) {
    let mut before = None;
    let mut after = None;
    tried.part("kept", || {
        let (first, second) = (stamps(stage)?, stamps(stage)?);
        before = Some(first.clone());
        after = Some(second.clone());
        ensure!(first.0 == second.0, "the step was run again: {} is not {}", second.0, first.0);
        Ok(())
    });
    tried.part("force_build", || {
        let (before, after) = before.zip(after).context("the run before failed")?;
        ensure!(before.1 != after.1, "the step was not run again");
        Ok(())
    });
    tried.part("failing step", || {
        let said = stage.modal(&["run", "image_broken.py"]).end(COMMAND_LIMIT)?.failure()?;
        for text in ["the oven is cold", "exit 7"] {
            ensure!(said.contains(text), "`{text}` is not in {said}");
        }
        Ok(())
    });
    tried.part("unknown Python", || {
        let said = stage.modal(&["run", "image_python.py"]).end(COMMAND_LIMIT)?.failure()?;
        for text in ["3.15", "3.11"] {
            ensure!(said.contains(text), "`{text}` is not in {said}");
        }
        Ok(())
    });
}
