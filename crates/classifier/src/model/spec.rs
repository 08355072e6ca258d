//! A model in memory, and how it becomes a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use corral_types::BlobHash;

use super::error::{ModelError, PartsError};
use super::format::FileBuilder;
use super::heads::{add_head, feature, member_section, settings_of};
use super::refuse::{add_refusal, check_refusal, refusal_settings};
use super::settings::{
    CONFIDENCE_POWER_FEATURE, CalibrationSettings, EncoderNeed, LAYERS_FEATURE, LexiconUseSettings,
    MemberSettings, REFUSAL_FEATURE, Settings, Thresholds,
};
use crate::calibration::{Calibration, Link, Tempering};
use crate::classes::{ClassArrays, ClassEntry};
use crate::encoder::{EmbeddingUse, EmbeddingView};
use crate::head::Head;
use crate::lexical::Lexicon;

/// Members of one model. Ensembles gain nothing from more, and the header holds no more.
pub const MAX_MEMBERS: usize = 64;

/// A trained model, to be written.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    pub name: String,
    /// Anything to be told with the model: the data set, the taxonomy, the search. Not read
    /// by prediction.
    pub metadata: BTreeMap<String, String>,
    /// All classes of the taxonomy, inner ones included, in any order.
    pub classes: Vec<ClassEntry>,
    /// The class, by its place in `classes`, of each output of the heads.
    pub outputs: Vec<u32>,
    pub link: Link,
    /// The encoder that members with an embedding read.
    pub encoder: Option<EncoderNeed>,
    /// Lexicons, which members share by their place here.
    pub lexicons: Vec<Lexicon<'static>>,
    pub members: Vec<MemberSpec>,
    /// The calibration of the ensemble as a whole.
    pub tempering: Tempering,
    pub thresholds: Thresholds,
}

/// One member of a model: features, a head over them, and its calibration.
#[derive(Clone, Debug)]
pub struct MemberSpec {
    pub name: String,
    pub featurizer: Featurizer,
    pub head: Head<'static>,
    pub calibration: Calibration<'static>,
    /// Its share in the ensemble; writing divides by the sum.
    pub weight: f32,
}

/// What a member's head reads: the columns of a lexicon, then those of a view of the
/// embedding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Featurizer {
    pub lexicon: Option<LexiconUse>,
    /// Present where the head reads an embedding.
    pub embedding: Option<EmbeddingUse>,
}

/// A lexicon as a member reads it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LexiconUse {
    /// The lexicon's place in the model.
    pub lexicon: usize,
    /// Multiplies the lexicon's rows.
    pub scale: f32,
}

impl Featurizer {
    /// The rows of one lexicon, as they are.
    pub const fn lexical(lexicon: usize) -> Self {
        Self { lexicon: Some(LexiconUse { lexicon, scale: 1.0 }), embedding: None }
    }

    /// A view of the embedding, as it is.
    pub const fn embedding(view: EmbeddingView) -> Self {
        Self { lexicon: None, embedding: Some(EmbeddingUse { view, scale: 1.0 }) }
    }
}

impl ModelSpec {
    /// Writes the model to `path`, which either gets the whole file or stays as it was, and
    /// answers the file's hash. The same model gives the same bytes.
    pub fn write(&self, path: &Path) -> Result<BlobHash, ModelError> {
        let bytes = self.to_bytes()?;
        let failed =
            |action| move |source| ModelError::Io { action, path: path.to_owned(), source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        let mut file = tempfile::Builder::new()
            .prefix(".model-")
            // Less what the umask takes, as for any file that a person exports.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .map_err(failed("create a file beside"))?;
        file.write_all(&bytes).map_err(failed("write"))?;
        file.as_file().sync_all().map_err(failed("sync"))?;
        file.persist(path).map_err(|error| failed("replace")(error.error))?;
        let directory = File::open(folder).map_err(failed("open the folder of"))?;
        directory.sync_all().map_err(failed("sync the folder of"))?;
        Ok(BlobHash::of(&bytes))
    }

    /// The bytes of the model file.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ModelError> {
        self.check()?;
        let classes = ClassArrays::build(&self.classes)?;
        let mut file = FileBuilder::default();
        file.add("class.ends", &classes.ends);
        file.add("class.text", &classes.text);
        file.add("class.parents", &classes.parents);
        file.add("class.outputs", &self.outputs);
        if let Some(thresholds) = &self.thresholds.per_output {
            file.add("class.thresholds", thresholds);
        }
        for (index, lexicon) in self.lexicons.iter().enumerate() {
            file.add(&format!("lexicon.{index}.buckets"), lexicon.buckets());
            file.add(&format!("lexicon.{index}.weights"), lexicon.weights());
        }
        if let Some(refusal) = &self.thresholds.refusal {
            add_refusal(&mut file, refusal);
        }
        for (index, member) in self.members.iter().enumerate() {
            add_member(&mut file, index, member);
        }
        file.finish(&self.settings())
    }

    /// The members' weights, divided by their sum.
    pub(super) fn shares(&self) -> impl Iterator<Item = f32> {
        let total: f32 = self.members.iter().map(|member| member.weight).sum();
        self.members.iter().map(move |member| member.weight / total)
    }

    fn settings(&self) -> Settings {
        let mut requires: Vec<String> = Vec::new();
        for word in self.members.iter().map(|member| feature(&member.head)) {
            if !requires.iter().any(|known| known == word) {
                requires.push(word.to_owned());
            }
        }
        if !self.lexicons.is_empty() {
            requires.push("lexicon".to_owned());
        }
        let later: BTreeSet<&str> =
            self.lexicons.iter().flat_map(|lexicon| lexicon.shape().later_features()).collect();
        requires.extend(later.into_iter().map(str::to_owned));
        if self.encoder.is_some() {
            requires.push("embedding".to_owned());
        }
        let reads_layers = |member: &MemberSpec| {
            member.featurizer.embedding.is_some_and(|used| used.view == EmbeddingView::Layers)
        };
        if self.members.iter().any(reads_layers) {
            requires.push(LAYERS_FEATURE.to_owned());
        }
        if self.tempering.confidence_power != 0.0 {
            requires.push(CONFIDENCE_POWER_FEATURE.to_owned());
        }
        if self.thresholds.refusal.is_some() {
            requires.push(REFUSAL_FEATURE.to_owned());
        }
        Settings {
            requires,
            name: self.name.clone(),
            metadata: self.metadata.clone(),
            link: self.link,
            classes: self.classes.len() as u64,
            outputs: self.outputs.len() as u64,
            encoder: self.encoder.clone(),
            lexicons: self.lexicons.iter().map(|lexicon| lexicon.shape().clone()).collect(),
            members: (self.members.iter().zip(self.shares()))
                .map(|(member, share)| member_settings(member, share))
                .collect(),
            temperature: self.tempering.temperature,
            confidence_power: self.tempering.confidence_power,
            least_probability: self.thresholds.least_probability,
            has_output_thresholds: self.thresholds.per_output.is_some(),
            refusal: self.thresholds.refusal.as_ref().map(refusal_settings),
        }
    }

    fn check(&self) -> Result<(), PartsError> {
        let outputs = self.outputs.len();
        let mut named = vec![false; self.classes.len()];
        let each_once = self.outputs.iter().all(|&class| {
            named.get_mut(class as usize).is_some_and(|named| !std::mem::replace(named, true))
        });
        if outputs == 0 || !each_once {
            return Err(PartsError::Outputs(outputs));
        }
        if self.members.is_empty() || self.members.len() > MAX_MEMBERS {
            return Err(PartsError::MemberCount(MAX_MEMBERS));
        }
        check_number("the model", "the temperature", self.tempering.temperature)?;
        let power = self.tempering.confidence_power;
        if !power.is_finite() || power != 0.0 && self.link != Link::Softmax {
            return Err(PartsError::ConfidencePower { power });
        }
        let thresholds = self.thresholds.per_output.as_deref().unwrap_or_default();
        let wrong_count = self.thresholds.per_output.is_some() && thresholds.len() != outputs;
        let common = self.thresholds.least_probability;
        if wrong_count || !thresholds.iter().copied().chain(common).all(f32::is_finite) {
            return Err(PartsError::Thresholds { found: thresholds.len(), outputs });
        }
        if let Some(refusal) = &self.thresholds.refusal {
            check_refusal(self, refusal)?;
        }
        self.members.iter().try_for_each(|member| self.check_member(member))
    }

    fn check_member(&self, member: &MemberSpec) -> Result<(), PartsError> {
        let name = || member.name.clone();
        let shape = |what, found, wanted| {
            if found == wanted {
                Ok(())
            } else {
                Err(PartsError::MemberShape { member: name(), what, found, wanted })
            }
        };
        let mut columns = 0;
        if let Some(used) = member.featurizer.lexicon {
            let Some(lexicon) = self.lexicons.get(used.lexicon) else {
                let lexicons = self.lexicons.len();
                let lexicon = used.lexicon;
                return Err(PartsError::MemberLexicon { member: name(), lexicon, lexicons });
            };
            columns += lexicon.columns();
            check_number(&member.name, "the scale of the lexicon", used.scale)?;
        }
        if let Some(EmbeddingUse { view, scale }) = member.featurizer.embedding {
            let dimension = self.encoder.as_ref().and_then(|encoder| encoder.dimension_of(view));
            let Some(dimension) = dimension else {
                return Err(PartsError::EncoderMissing { member: name(), view });
            };
            columns += dimension;
            check_number(&member.name, "the scale of the embedding", scale)?;
        }
        if columns == 0 {
            return Err(PartsError::FeaturizerEmpty { member: name() });
        }
        shape("columns", member.head.columns(), columns)?;
        shape("outputs", member.head.outputs(), self.outputs.len())?;
        check_number(&member.name, "the weight", member.weight)?;
        match &member.calibration {
            Calibration::Temperature(temperature) => {
                check_number(&member.name, "the temperature", *temperature)
            }
            Calibration::PerOutput { slopes, offsets } => {
                shape("slopes", slopes.len(), self.outputs.len())?;
                shape("offsets", offsets.len(), self.outputs.len())
            }
        }
    }
}

fn check_number(owner: &str, what: &'static str, number: f32) -> Result<(), PartsError> {
    if number.is_finite() && number > 0.0 {
        Ok(())
    } else {
        Err(PartsError::Number { owner: owner.to_owned(), what })
    }
}

fn member_settings(member: &MemberSpec, share: f32) -> MemberSettings {
    MemberSettings {
        name: member.name.clone(),
        weight: share,
        lexicon: member
            .featurizer
            .lexicon
            .map(|used| LexiconUseSettings { lexicon: used.lexicon as u32, scale: used.scale }),
        embedding_scale: member.featurizer.embedding.map(|used| used.scale),
        embedding_view: (member.featurizer.embedding)
            .map_or(EmbeddingView::Pooled, |used| used.view),
        head: settings_of(&member.head),
        calibration: match member.calibration {
            Calibration::Temperature(temperature) => CalibrationSettings::Temperature(temperature),
            Calibration::PerOutput { .. } => CalibrationSettings::PerOutput,
        },
    }
}

fn add_member(file: &mut FileBuilder, index: usize, member: &MemberSpec) {
    let section = |name: &str| member_section(index, name);
    add_head(file, index, &member.head);
    if let Calibration::PerOutput { slopes, offsets } = &member.calibration {
        file.add(&section("slopes"), slopes);
        file.add(&section("offsets"), offsets);
    }
}
