//! The full check of a model's entries, done once when a file comes from outside.

use super::error::Damage;
use super::heads::check_head;
use super::open::Model;
use super::refuse::check_refusal_entries;
use crate::calibration::Calibration;
use crate::lexical::is_sound;

/// Checks every entry that points to another, and that weights are numbers.
pub(super) fn check_entries(model: &Model) -> Result<(), Damage> {
    check_classes(model)?;
    for (index, shape) in model.settings().lexicons.iter().enumerate() {
        let lexicon = model.lexicon(index);
        let sound = is_sound(lexicon.buckets(), shape.columns());
        let section = || format!("lexicon.{index}.buckets");
        require(sound, section, "features that do not exist, or no room")?;
        finite(lexicon.weights(), || format!("lexicon.{index}.weights"))?;
    }
    if let Some(refusal) = model.refusal() {
        check_refusal_entries(&refusal)?;
    }
    (0..model.settings().members.len()).try_for_each(|index| check_member(model, index))
}

fn check_classes(model: &Model) -> Result<(), Damage> {
    let table = model.class_table();
    let ends = || "class.ends".to_owned();
    let covers = table.ends.is_sorted()
        && table.ends.last().is_some_and(|&end| end as usize == table.text.len());
    require(covers, ends, "ends that fall or miss the text")?;
    let text = std::str::from_utf8(table.text).ok();
    let whole =
        text.is_some_and(|text| table.ends.iter().all(|&end| text.is_char_boundary(end as usize)));
    require(whole, || "class.text".to_owned(), "bytes that are not text")?;
    let parents =
        table.parents.iter().all(|&parent| parent == u32::MAX || (parent as usize) < table.len());
    require(parents, || "class.parents".to_owned(), "parents that do not exist")?;
    let rooted = (0..table.len() as u32)
        .all(|class| table.upward(class).last().is_some_and(|root| table.parent(root).is_none()));
    require(rooted, || "class.parents".to_owned(), "a circle, or a tree that is too deep")?;
    let mut seen = vec![false; table.len()];
    let once = table.outputs.iter().all(|&class| {
        seen.get_mut(class as usize).is_some_and(|seen| !std::mem::replace(seen, true))
    });
    require(once, || "class.outputs".to_owned(), "classes that do not exist or stand twice")?;
    finite(model.output_thresholds().unwrap_or_default(), || "class.thresholds".to_owned())
}

fn check_member(model: &Model, index: usize) -> Result<(), Damage> {
    let member = model.member(index);
    let section = |name: &str| format!("member.{index}.{name}");
    check_head(&member.head, index)?;
    match &member.calibration {
        Calibration::Temperature(_) => Ok(()),
        Calibration::PerOutput { slopes, offsets } => {
            finite(slopes, || section("slopes"))?;
            finite(offsets, || section("offsets"))
        }
    }
}

pub(super) fn finite(numbers: &[f32], section: impl Fn() -> String) -> Result<(), Damage> {
    require(numbers.iter().all(|number| number.is_finite()), section, "numbers that are not finite")
}

pub(super) fn require(
    sound: bool,
    section: impl Fn() -> String,
    what: &'static str,
) -> Result<(), Damage> {
    if sound { Ok(()) } else { Err(Damage::Entries { section: section(), what }) }
}
