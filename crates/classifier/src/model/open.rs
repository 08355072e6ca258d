//! Opening a model file, and looking into it.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

use super::error::{Damage, ModelError};
use super::format::{Sections, content_hash_matches, read_header};
use super::heads::{HeadPlaces, HeadShape, member_section, place_head};
use super::mapping::FileBytes;
use super::refuse::{RefusalPlaces, place_refusal};
use super::settings::{CalibrationSettings, EncoderNeed, MemberSettings, Settings};
use super::spec::{Featurizer, LexiconUse, MAX_MEMBERS};
use crate::calibration::{Calibration, Link, Tempering};
use crate::classes::{ClassRef, ClassTable, MAX_CLASSES};
use crate::encoder::{EmbeddingUse, EmbeddingView};
use crate::head::{Head, MAX_OUTPUTS};
use crate::lexical::{Bucket, Lexicon};
use crate::refusal::Refusal;

/// An open model. Nothing of its sections has been read; each prediction touches what it
/// needs. Cheap to keep: some kilobytes beside the mapping.
#[derive(Debug)]
pub struct Model {
    bytes: FileBytes,
    settings: Settings,
    classes: ClassPlaces,
    lexicons: Vec<LexiconPlaces>,
    members: Vec<MemberPlaces>,
    refusal: Option<RefusalPlaces>,
}

#[derive(Debug)]
struct ClassPlaces {
    ends: Range<usize>,
    text: Range<usize>,
    parents: Range<usize>,
    outputs: Range<usize>,
    thresholds: Option<Range<usize>>,
}

#[derive(Debug)]
struct LexiconPlaces {
    buckets: Range<usize>,
    weights: Range<usize>,
}

#[derive(Debug)]
struct MemberPlaces {
    head: HeadPlaces,
    per_output: Option<[Range<usize>; 2]>,
}

/// What a model is, for people and programs.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelInfo {
    pub name: String,
    pub metadata: BTreeMap<String, String>,
    pub file_bytes: u64,
    pub classes: usize,
    pub outputs: usize,
    pub link: Link,
    pub encoder: Option<EncoderNeed>,
    /// The number of features of each lexicon.
    pub lexicon_columns: Vec<usize>,
    pub members: Vec<MemberInfo>,
    pub least_probability: Option<f32>,
    /// From which score on the model refuses a text, where it does.
    pub refusal_threshold: Option<f32>,
}

/// What a member of a model is.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberInfo {
    pub name: String,
    /// Its share in the ensemble; shares sum to 1.
    pub weight: f32,
    pub featurizer: Featurizer,
    pub columns: usize,
    /// The bytes of its head.
    pub head_bytes: usize,
}

/// A member over the arrays of the file.
pub(crate) struct MemberView<'a> {
    pub weight: f32,
    pub lexicon: Option<LexiconUse>,
    pub embedding: Option<EmbeddingUse>,
    pub head: Head<'a>,
    pub calibration: Calibration<'a>,
}

impl Model {
    /// Maps a file of the blob store, where files are never changed. Only the header is read.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let failed = |source| ModelError::Io { action: "open", path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() == 0 {
            return Err(ModelError::Foreign);
        }
        Self::over(FileBytes::map(&file).map_err(failed)?)
    }

    /// Reads a file from outside the blob store into memory and verifies it.
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        let failed = |source| ModelError::Io { action: "read", path: path.to_owned(), source };
        let mut file = File::open(path).map_err(failed)?;
        let model = Self::over(FileBytes::read(&mut file).map_err(failed)?)?;
        model.verify_content()?;
        Ok(model)
    }

    /// A model from the bytes of its file, which are copied. They are not verified.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        let failed = |source| ModelError::Io { action: "copy", path: "(memory)".into(), source };
        Self::over(FileBytes::copy(bytes).map_err(failed)?)
    }

    /// Checks all of a file: its hash and every entry that points to another.
    pub fn verify(path: &Path) -> Result<(), ModelError> {
        let failed = |source| ModelError::Io { action: "open", path: path.to_owned(), source };
        let mut file = File::open(path).map_err(failed)?;
        Self::over(FileBytes::read(&mut file).map_err(failed)?)?.verify_content()
    }

    fn over(bytes: FileBytes) -> Result<Self, ModelError> {
        let (settings, mut sections) = read_header(&bytes)?;
        let classes = place_classes(&settings, &mut sections)?;
        let lexicons = place_lexicons(&settings, &mut sections)?;
        let members = place_members(&settings, &mut sections)?;
        let refusal = place_refusal(&settings, &mut sections)?;
        sections.finish()?;
        Ok(Self { bytes, settings, classes, lexicons, members, refusal })
    }

    /// Checks the file's hash and every entry that points to another. Opening leaves this
    /// out: a damaged entry gives a wrong answer at worst.
    pub fn verify_content(&self) -> Result<(), ModelError> {
        if !content_hash_matches(&self.bytes) {
            return Err(Damage::ContentHash.into());
        }
        super::verify::check_entries(self)?;
        Ok(())
    }

    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Bytes of the file.
    pub fn file_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Asks the kernel to read the file into memory, without waiting for it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn read_ahead(&self) -> std::io::Result<()> {
        self.bytes.read_ahead()
    }

    pub fn link(&self) -> Link {
        self.settings.link
    }

    /// The encoder whose embeddings predictions need.
    pub fn encoder(&self) -> Option<&EncoderNeed> {
        self.settings.encoder.as_ref()
    }

    /// The views of the encoder's embeddings that members read, each once.
    pub fn views(&self) -> impl Iterator<Item = EmbeddingView> {
        let reads = |view: EmbeddingView| {
            move |member: &MemberSettings| member.embedding().is_some_and(|used| used.view == view)
        };
        EmbeddingView::ALL
            .into_iter()
            .filter(move |&view| self.settings.members.iter().any(reads(view)))
    }

    /// The number of classes, inner ones included.
    pub fn class_count(&self) -> usize {
        self.class_table().len()
    }

    /// The number of outputs: classes that get a probability of their own.
    pub fn output_count(&self) -> usize {
        self.class_table().outputs.len()
    }

    /// The class at `index`.
    pub fn class(&self, index: u32) -> Option<ClassRef<'_>> {
        self.class_table().get(index)
    }

    /// The class of an output.
    pub fn output_class(&self, output: usize) -> Option<ClassRef<'_>> {
        self.class(*self.class_table().outputs.get(output)?)
    }

    /// The classes from the root to `index`, itself included.
    pub fn class_path(&self, index: u32) -> Vec<u32> {
        self.class_table().path(index)
    }

    /// What the model is.
    pub fn info(&self) -> ModelInfo {
        let members = self.settings.members.iter().enumerate().map(|(index, member)| {
            let view = self.member(index);
            MemberInfo {
                name: member.name.clone(),
                weight: member.weight,
                featurizer: Featurizer { lexicon: view.lexicon, embedding: view.embedding },
                columns: view.head.columns(),
                head_bytes: view.head.memory_bytes(),
            }
        });
        ModelInfo {
            name: self.settings.name.clone(),
            metadata: self.settings.metadata.clone(),
            file_bytes: self.bytes.len() as u64,
            classes: self.class_count(),
            outputs: self.output_count(),
            link: self.settings.link,
            encoder: self.settings.encoder.clone(),
            lexicon_columns: self.settings.lexicons.iter().map(|shape| shape.columns()).collect(),
            members: members.collect(),
            least_probability: self.settings.least_probability,
            refusal_threshold: self.settings.refusal.map(|refusal| refusal.threshold),
        }
    }

    pub(super) const fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn class_table(&self) -> ClassTable<'_> {
        ClassTable {
            ends: self.entries(&self.classes.ends),
            text: &self.bytes[self.classes.text.clone()],
            parents: self.entries(&self.classes.parents),
            outputs: self.entries(&self.classes.outputs),
        }
    }

    /// The threshold of each output, where they differ.
    pub fn output_thresholds(&self) -> Option<&[f32]> {
        self.classes.thresholds.as_ref().map(|range| self.entries(range))
    }

    /// The lexicon at `index`, over the arrays of the file.
    ///
    /// # Panics
    /// When there is no such lexicon.
    pub fn lexicon(&self, index: usize) -> Lexicon<'_> {
        let places = &self.lexicons[index];
        Lexicon::borrowed(
            &self.settings.lexicons[index],
            self.entries::<Bucket>(&places.buckets),
            self.entries(&places.weights),
        )
    }

    /// The member at `index`.
    ///
    /// # Panics
    /// When there is no such member.
    pub(crate) fn member(&self, index: usize) -> MemberView<'_> {
        let places = &self.members[index];
        let settings = &self.settings.members[index];
        let calibration = match (&places.per_output, settings.calibration) {
            (Some([slopes, offsets]), _) => Calibration::PerOutput {
                slopes: self.entries(slopes).into(),
                offsets: self.entries(offsets).into(),
            },
            (None, CalibrationSettings::Temperature(temperature)) => {
                Calibration::Temperature(temperature)
            }
            (None, CalibrationSettings::PerOutput) => Calibration::NONE,
        };
        MemberView {
            weight: settings.weight,
            lexicon: settings
                .lexicon
                .as_ref()
                .map(|used| LexiconUse { lexicon: used.lexicon as usize, scale: used.scale }),
            embedding: settings.embedding(),
            head: places.head.view(&self.bytes),
            calibration,
        }
    }

    /// How the model finds texts that are none of its classes, over the arrays of the file;
    /// `None` where it refuses none.
    pub fn refusal(&self) -> Option<Refusal<'_>> {
        Some(self.refusal.as_ref()?.view(&self.bytes))
    }

    /// The calibration of the ensemble as a whole.
    pub(crate) const fn tempering(&self) -> Tempering {
        let Settings { temperature, confidence_power, .. } = self.settings;
        Tempering { temperature, confidence_power }
    }

    /// Whether texts are refused by their signals.
    pub(super) fn has_detector(&self) -> bool {
        self.refusal.as_ref().is_some_and(RefusalPlaces::has_detector)
    }

    fn entries<T: bytemuck::AnyBitPattern>(&self, range: &Range<usize>) -> &[T] {
        entries(&self.bytes, range)
    }
}

/// The entries of a section. Sections begin at multiples of 64 within bytes that begin at a
/// page, and their lengths were checked at opening.
pub(super) fn entries<'a, T: bytemuck::AnyBitPattern>(
    bytes: &'a [u8],
    range: &Range<usize>,
) -> &'a [T] {
    bytemuck::cast_slice(&bytes[range.clone()])
}

fn place_classes(settings: &Settings, sections: &mut Sections) -> Result<ClassPlaces, ModelError> {
    let count = |number: u64, limit: usize| {
        usize::try_from(number).ok().filter(|count| (1..=limit).contains(count))
    };
    let (Some(classes), Some(outputs)) =
        (count(settings.classes, MAX_CLASSES), count(settings.outputs, MAX_OUTPUTS))
    else {
        return Err(unsound("a number of classes or outputs beyond the limits"));
    };
    Ok(ClassPlaces {
        ends: sections.take::<u32>("class.ends", 2 * classes)?,
        text: sections.take_any::<u8>("class.text")?,
        parents: sections.take::<u32>("class.parents", classes)?,
        outputs: sections.take::<u32>("class.outputs", outputs)?,
        thresholds: (settings.has_output_thresholds)
            .then(|| sections.take::<f32>("class.thresholds", outputs))
            .transpose()?,
    })
}

fn place_lexicons(
    settings: &Settings,
    sections: &mut Sections,
) -> Result<Vec<LexiconPlaces>, ModelError> {
    let place = |(index, shape): (usize, &crate::lexical::LexiconShape)| {
        if !shape.is_sound() {
            return Err(unsound("a lexicon that cannot be"));
        }
        Ok(LexiconPlaces {
            buckets: sections.take_any::<Bucket>(&format!("lexicon.{index}.buckets"))?,
            weights: sections.take::<f32>(&format!("lexicon.{index}.weights"), shape.columns())?,
        })
    };
    settings.lexicons.iter().enumerate().map(place).collect()
}

fn place_members(
    settings: &Settings,
    sections: &mut Sections,
) -> Result<Vec<MemberPlaces>, ModelError> {
    if settings.members.is_empty() || settings.members.len() > MAX_MEMBERS {
        return Err(unsound("no members, or too many"));
    }
    (settings.members.iter().enumerate())
        .map(|(index, member)| place_member(settings, sections, index, member))
        .collect()
}

fn place_member(
    settings: &Settings,
    sections: &mut Sections,
    index: usize,
    member: &MemberSettings,
) -> Result<MemberPlaces, ModelError> {
    let (mut lexical_columns, mut embedding_columns) = (0, 0);
    if let Some(used) = &member.lexicon {
        let lexicon = settings.lexicons.get(used.lexicon as usize);
        lexical_columns =
            lexicon.ok_or_else(|| unsound("a member of a missing lexicon"))?.columns();
    }
    if let Some(used) = member.embedding() {
        let encoder = settings.encoder.as_ref();
        let dimension = encoder.and_then(|encoder| encoder.dimension_of(used.view));
        embedding_columns = dimension.ok_or_else(|| unsound("a member of a missing encoder"))?;
    }
    let outputs = settings.outputs as usize;
    let shape = HeadShape { lexical_columns, embedding_columns, outputs };
    let section = |name: &str| member_section(index, name);
    Ok(MemberPlaces {
        head: place_head(&member.head, shape, sections, index)?,
        per_output: match member.calibration {
            CalibrationSettings::Temperature(_) => None,
            CalibrationSettings::PerOutput => Some([
                sections.take::<f32>(&section("slopes"), outputs)?,
                sections.take::<f32>(&section("offsets"), outputs)?,
            ]),
        },
    })
}

pub(super) fn unsound(what: &str) -> ModelError {
    Damage::Settings(format!("they name {what}")).into()
}
