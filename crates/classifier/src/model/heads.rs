//! Heads in a model file: how they are written, placed, viewed and checked.

use std::ops::Range;

use super::error::{Damage, ModelError};
use super::format::{FileBuilder, Sections};
use super::open::{entries, unsound};
use super::settings::{HeadSettings, WeightKind};
use super::verify::{finite, require};
use crate::head::{
    Activation, Head, KernelHead, LinearHead, LocalHead, MAX_NEIGHBOURS, MAX_OUTPUTS,
    MAX_STORED_ROWS, MAX_STORED_WIDTH, NeighboursHead, NetworkHead, StoredRows, Weights,
    padded_width,
};
use crate::kernels::stride;

/// Hidden units of a network at most: far more than training makes, and small enough for
/// every product of sizes.
const MAX_HIDDEN_UNITS: usize = 1 << 16;

/// Where a head's arrays lie.
#[derive(Debug)]
pub(super) enum HeadPlaces {
    Linear(LinearPlaces),
    Network {
        hidden: LinearPlaces,
        activation: Activation,
        output: LinearPlaces,
    },
    Neighbours {
        outputs: usize,
        neighbours: usize,
        sharpness: f32,
        rows: StoredPlaces,
        starts: Range<usize>,
        classes: Range<usize>,
        shares: Range<usize>,
    },
    Kernel {
        decay: f32,
        rows: StoredPlaces,
        weights: LinearPlaces,
    },
    Local {
        parents: LinearPlaces,
        children: LinearPlaces,
        parent_of: Range<usize>,
        sharpness: f32,
    },
}

#[derive(Debug)]
pub(super) struct LinearPlaces {
    columns: usize,
    bias: Range<usize>,
    weights: WeightPlaces,
}

#[derive(Debug)]
enum WeightPlaces {
    F32 {
        weights: Range<usize>,
    },
    Int8 {
        scales: Range<usize>,
        weights: Range<usize>,
    },
    SparseInt8 {
        starts: Range<usize>,
        scales: Range<usize>,
        bases: Range<usize>,
        outputs: Range<usize>,
        weights: Range<usize>,
    },
}

#[derive(Debug)]
pub(super) struct StoredPlaces {
    width: usize,
    scales: Range<usize>,
    values: Range<usize>,
}

/// The features that a member's head reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadShape {
    pub lexical_columns: usize,
    pub embedding_columns: usize,
    pub outputs: usize,
}

/// The names of a member's sections.
pub(super) fn member_section(index: usize, name: &str) -> String {
    format!("member.{index}.{name}")
}

/// The word by which a file says that it has such a head.
pub(super) const fn feature(head: &Head<'_>) -> &'static str {
    match head {
        Head::Linear(_) => "linear",
        Head::Network(_) => "network",
        Head::Neighbours(_) => "neighbours",
        Head::Kernel(_) => "kernel",
        Head::Local(_) => "local",
    }
}

pub(super) fn settings_of(head: &Head<'_>) -> HeadSettings {
    match head {
        Head::Linear(head) => HeadSettings::Linear(weight_kind(head)),
        Head::Network(head) => HeadSettings::Network {
            width: head.width() as u32,
            activation: head.activation,
            hidden: weight_kind(&head.hidden),
            output: weight_kind(&head.output),
        },
        Head::Neighbours(head) => HeadSettings::Neighbours {
            rows: head.rows() as u32,
            neighbours: head.neighbours as u32,
            sharpness: head.sharpness,
        },
        Head::Kernel(head) => HeadSettings::Kernel {
            rows: head.rows() as u32,
            decay: head.decay,
            weights: weight_kind(&head.weights),
        },
        Head::Local(head) => HeadSettings::Local {
            parents: head.parents() as u32,
            parent_weights: weight_kind(&head.parents),
            child_weights: weight_kind(&head.children),
            sharpness: head.sharpness,
        },
    }
}

const fn weight_kind(head: &LinearHead<'_>) -> WeightKind {
    match head.weights {
        Weights::F32(_) => WeightKind::F32,
        Weights::Int8 { .. } => WeightKind::Int8,
        Weights::SparseInt8 { .. } => WeightKind::SparseInt8,
    }
}

/// Appends the sections of a member's head.
pub(super) fn add_head(file: &mut FileBuilder, member: usize, head: &Head<'_>) {
    let section = |name: &str| member_section(member, name);
    match head {
        Head::Linear(head) => add_linear(file, head, &section),
        Head::Network(head) => {
            add_linear(file, &head.hidden, &|name| section(&format!("hidden.{name}")));
            add_linear(file, &head.output, &|name| section(&format!("output.{name}")));
        }
        Head::Neighbours(head) => {
            add_stored(file, &head.rows, &section);
            file.add(&section("label.starts"), &head.starts);
            file.add(&section("label.classes"), &head.classes);
            file.add(&section("label.shares"), &head.shares);
        }
        Head::Kernel(head) => {
            add_stored(file, &head.rows, &section);
            add_linear(file, &head.weights, &section);
        }
        Head::Local(head) => {
            add_linear(file, &head.parents, &|name| section(&format!("parent.{name}")));
            add_linear(file, &head.children, &|name| section(&format!("child.{name}")));
            file.add(&section("output.parents"), &head.parent_of);
        }
    }
}

fn add_linear(file: &mut FileBuilder, head: &LinearHead<'_>, section: &impl Fn(&str) -> String) {
    file.add(&section("bias"), &head.bias);
    match &head.weights {
        Weights::F32(weights) => file.add(&section("weights"), weights),
        Weights::Int8 { scales, weights } => {
            file.add(&section("scales"), scales);
            file.add(&section("weights"), weights);
        }
        Weights::SparseInt8 { starts, scales, bases, outputs, weights } => {
            file.add(&section("starts"), starts);
            file.add(&section("scales"), scales);
            file.add(&section("bases"), bases);
            file.add(&section("outputs"), outputs);
            file.add(&section("weights"), weights);
        }
    }
}

fn add_stored(file: &mut FileBuilder, rows: &StoredRows<'_>, section: &impl Fn(&str) -> String) {
    file.add(&section("row.scales"), &rows.scales);
    file.add(&section("row.values"), &rows.values);
}

/// Takes the sections of a member's head, whose lengths must be those that its settings and
/// the member's features ask for.
pub(super) fn place_head(
    settings: &HeadSettings,
    shape: HeadShape,
    sections: &mut Sections,
    member: usize,
) -> Result<HeadPlaces, ModelError> {
    let section = |name: &str| member_section(member, name);
    let HeadShape { lexical_columns, embedding_columns, outputs } = shape;
    let columns = lexical_columns + embedding_columns;
    let of =
        |part: &'static str| move |name: &str| member_section(member, &format!("{part}.{name}"));
    Ok(match *settings {
        HeadSettings::Linear(kind) => {
            HeadPlaces::Linear(place_linear(kind, columns, outputs, sections, &section)?)
        }
        HeadSettings::Network { width, activation, hidden, output } => {
            let width = width as usize;
            if width == 0 || width > MAX_HIDDEN_UNITS {
                return Err(unsound("a number of hidden units beyond the limits"));
            }
            HeadPlaces::Network {
                hidden: place_linear(hidden, columns, width, sections, &of("hidden"))?,
                activation,
                output: place_linear(output, width, outputs, sections, &of("output"))?,
            }
        }
        HeadSettings::Neighbours { rows, neighbours, sharpness } => {
            let sound = sharpness.is_finite()
                && (1..=MAX_NEIGHBOURS as u32).contains(&neighbours)
                && lexical_columns == 0;
            if !sound {
                return Err(unsound("neighbours that cannot be"));
            }
            let classes = sections.take_any::<u16>(&section("label.classes"))?;
            let labels = classes.len() / size_of::<u16>();
            HeadPlaces::Neighbours {
                outputs,
                neighbours: neighbours as usize,
                sharpness,
                rows: place_stored(rows, embedding_columns, sections, &section)?,
                starts: sections.take::<u32>(&section("label.starts"), rows as usize + 1)?,
                shares: sections.take::<f32>(&section("label.shares"), labels)?,
                classes,
            }
        }
        HeadSettings::Kernel { rows, decay, weights } => {
            if !decay.is_finite() {
                return Err(unsound("a kernel that cannot be"));
            }
            let columns = lexical_columns + rows as usize;
            HeadPlaces::Kernel {
                decay,
                rows: place_stored(rows, embedding_columns, sections, &section)?,
                weights: place_linear(weights, columns, outputs, sections, &section)?,
            }
        }
        HeadSettings::Local { parents, parent_weights, child_weights, sharpness } => {
            let parents = parents as usize;
            if parents == 0 || parents > MAX_OUTPUTS || !sharpness.is_finite() {
                return Err(unsound("parents that cannot be"));
            }
            HeadPlaces::Local {
                parents: place_linear(parent_weights, columns, parents, sections, &of("parent"))?,
                children: place_linear(child_weights, columns, outputs, sections, &of("child"))?,
                parent_of: sections.take::<u16>(&section("output.parents"), outputs)?,
                sharpness,
            }
        }
    })
}

fn place_linear(
    kind: WeightKind,
    columns: usize,
    outputs: usize,
    sections: &mut Sections,
    section: &impl Fn(&str) -> String,
) -> Result<LinearPlaces, ModelError> {
    let padded = columns * stride(outputs);
    Ok(LinearPlaces {
        columns,
        bias: sections.take::<f32>(&section("bias"), outputs)?,
        weights: match kind {
            WeightKind::F32 => {
                WeightPlaces::F32 { weights: sections.take::<f32>(&section("weights"), padded)? }
            }
            WeightKind::Int8 => WeightPlaces::Int8 {
                scales: sections.take::<f32>(&section("scales"), columns)?,
                weights: sections.take::<i8>(&section("weights"), padded)?,
            },
            WeightKind::SparseInt8 => {
                let weights = sections.take_any::<i8>(&section("weights"))?;
                WeightPlaces::SparseInt8 {
                    starts: sections.take::<u32>(&section("starts"), columns + 1)?,
                    scales: sections.take::<f32>(&section("scales"), columns)?,
                    bases: sections.take::<f32>(&section("bases"), columns)?,
                    outputs: sections.take::<u16>(&section("outputs"), weights.len())?,
                    weights,
                }
            }
        },
    })
}

fn place_stored(
    rows: u32,
    width: usize,
    sections: &mut Sections,
    section: &impl Fn(&str) -> String,
) -> Result<StoredPlaces, ModelError> {
    let rows = rows as usize;
    if rows > MAX_STORED_ROWS || width == 0 || width > MAX_STORED_WIDTH {
        return Err(unsound("stored rows beyond the limits"));
    }
    Ok(StoredPlaces {
        width,
        scales: sections.take::<f32>(&section("row.scales"), rows)?,
        values: sections.take::<i8>(&section("row.values"), rows * padded_width(width))?,
    })
}

impl HeadPlaces {
    /// The head over the arrays of a file, given all its bytes.
    pub(super) fn view<'a>(&self, bytes: &'a [u8]) -> Head<'a> {
        match self {
            Self::Linear(places) => Head::Linear(places.view(bytes)),
            Self::Network { hidden, activation, output } => Head::Network(NetworkHead {
                hidden: hidden.view(bytes),
                activation: *activation,
                output: output.view(bytes),
            }),
            Self::Neighbours { outputs, neighbours, sharpness, rows, starts, classes, shares } => {
                Head::Neighbours(NeighboursHead {
                    outputs: *outputs,
                    neighbours: *neighbours,
                    sharpness: *sharpness,
                    rows: rows.view(bytes),
                    starts: entries(bytes, starts).into(),
                    classes: entries(bytes, classes).into(),
                    shares: entries(bytes, shares).into(),
                })
            }
            Self::Kernel { decay, rows, weights } => Head::Kernel(KernelHead {
                decay: *decay,
                rows: rows.view(bytes),
                weights: weights.view(bytes),
            }),
            Self::Local { parents, children, parent_of, sharpness } => Head::Local(LocalHead {
                parents: parents.view(bytes),
                children: children.view(bytes),
                parent_of: entries(bytes, parent_of).into(),
                sharpness: *sharpness,
            }),
        }
    }
}

impl LinearPlaces {
    fn view<'a>(&self, bytes: &'a [u8]) -> LinearHead<'a> {
        let weights = match &self.weights {
            WeightPlaces::F32 { weights } => Weights::F32(entries(bytes, weights).into()),
            WeightPlaces::Int8 { scales, weights } => Weights::Int8 {
                scales: entries(bytes, scales).into(),
                weights: entries(bytes, weights).into(),
            },
            WeightPlaces::SparseInt8 { starts, scales, bases, outputs, weights } => {
                Weights::SparseInt8 {
                    starts: entries(bytes, starts).into(),
                    scales: entries(bytes, scales).into(),
                    bases: entries(bytes, bases).into(),
                    outputs: entries(bytes, outputs).into(),
                    weights: entries(bytes, weights).into(),
                }
            }
        };
        LinearHead { columns: self.columns, bias: entries(bytes, &self.bias).into(), weights }
    }
}

impl StoredPlaces {
    fn view<'a>(&self, bytes: &'a [u8]) -> StoredRows<'a> {
        StoredRows {
            width: self.width,
            scales: entries(bytes, &self.scales).into(),
            values: entries(bytes, &self.values).into(),
        }
    }
}

/// Checks every entry of a member's head that points to another, and that weights are numbers.
pub(super) fn check_head(head: &Head<'_>, member: usize) -> Result<(), Damage> {
    let section = |name: &str| member_section(member, name);
    match head {
        Head::Linear(head) => check_linear(head, &section),
        Head::Network(head) => {
            check_linear(&head.hidden, &|name: &str| section(&format!("hidden.{name}")))?;
            check_linear(&head.output, &|name: &str| section(&format!("output.{name}")))
        }
        Head::Neighbours(head) => {
            finite(&head.rows.scales, || section("row.scales"))?;
            check_starts(&head.starts, head.classes.len(), || section("label.starts"))?;
            let known = head.classes.iter().all(|&class| usize::from(class) < head.outputs);
            require(known, || section("label.classes"), "outputs that do not exist")?;
            finite(&head.shares, || section("label.shares"))
        }
        Head::Kernel(head) => {
            finite(&head.rows.scales, || section("row.scales"))?;
            check_linear(&head.weights, &section)
        }
        Head::Local(head) => {
            check_linear(&head.parents, &|name: &str| section(&format!("parent.{name}")))?;
            check_linear(&head.children, &|name: &str| section(&format!("child.{name}")))?;
            let count = head.parents();
            let known = head.parent_of.iter().all(|&parent| usize::from(parent) < count);
            require(known, || section("output.parents"), "parents that do not exist")
        }
    }
}

fn check_linear(head: &LinearHead<'_>, section: &impl Fn(&str) -> String) -> Result<(), Damage> {
    finite(&head.bias, || section("bias"))?;
    match &head.weights {
        Weights::F32(weights) => finite(weights, || section("weights")),
        Weights::Int8 { scales, .. } => finite(scales, || section("scales")),
        Weights::SparseInt8 { starts, scales, bases, outputs, weights } => {
            check_starts(starts, weights.len(), || section("starts"))?;
            let count = head.outputs();
            let in_range = outputs.iter().all(|&output| usize::from(output) < count);
            require(in_range, || section("outputs"), "outputs that do not exist")?;
            finite(scales, || section("scales"))?;
            finite(bases, || section("bases"))
        }
    }
}

fn check_starts(
    starts: &[u32],
    entries: usize,
    section: impl Fn() -> String,
) -> Result<(), Damage> {
    let covers = starts.first() == Some(&0)
        && starts.is_sorted()
        && starts.last().is_some_and(|&end| end as usize == entries);
    require(covers, section, "starts that fall or miss the entries")
}
