//! What became of rows without label, for reports.

use serde::{Deserialize, Serialize};

/// How rows without label were treated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeakSummary {
    pub method: WeakMethod,
    /// Whether the model is fitted on what the method found.
    pub used: bool,
    /// Rows that were labelled; texts of classes where there was nothing else.
    pub rows: u64,
    /// Labelled rows, or texts of classes, that the figures below are counted on.
    pub held_out_rows: u64,
    /// The share of held-out rows that one and the same classifier got right: fitted on the
    /// labelled rows alone, and on the others, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy_without: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy_with: Option<f64>,
    /// What accuracy to expect where no row has a label to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_accuracy: Option<f64>,
    /// Rounds in which labels were made anew from those before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounds: Option<u32>,
    /// The share of the rows whose last label is still the first one: that of the nearest class
    /// text, or of the classifier of labelled rows alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_labels: Option<f64>,
    /// The share of the rows that get the same label when each half of the columns labels them
    /// by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view_agreement: Option<f64>,
}

/// How rows got their labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeakMethod {
    /// From labelled rows.
    SelfTraining,
    /// From the texts of classes, for rows without label.
    Prototypes,
    /// The texts of classes were the only rows.
    ClassTexts,
}

impl WeakSummary {
    /// Of rows so labelled and used, with nothing known beyond that.
    pub const fn new(method: WeakMethod, rows: usize) -> Self {
        Self {
            method,
            used: true,
            rows: rows as u64,
            held_out_rows: 0,
            accuracy_without: None,
            accuracy_with: None,
            estimated_accuracy: None,
            rounds: None,
            kept_labels: None,
            view_agreement: None,
        }
    }

    /// What a person should know of it.
    pub fn sentence(&self) -> String {
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        let rows = self.rows;
        match self.method {
            WeakMethod::SelfTraining => {
                let (without, with) =
                    (self.accuracy_without.unwrap_or(0.0), self.accuracy_with.unwrap_or(0.0));
                let (without, with) = (percent(without), percent(with));
                let verdict = if self.used {
                    let stages = self.stages(" first classifier's");
                    format!("so they are learnt from with labels made by self-training{stages}")
                } else {
                    "so they were left alone".to_owned()
                };
                format!(
                    "{rows} rows have no label: with them a classifier gets {with} of held-out \
                     labelled rows right and without them {without}, {verdict}"
                )
            }
            WeakMethod::Prototypes => {
                let estimate = self.estimated_accuracy.map_or_else(String::new, |estimate| {
                    format!(
                        "; about {} of the model's answers should be right, and it is calibrated \
                         to say so, but take it as a guess of ±7 points",
                        percent(estimate)
                    )
                });
                let stages = self.stages(" nearest class text's");
                format!(
                    "no row has a label: {rows} were labelled by what the taxonomy says of its \
                     classes{stages}{estimate}; cross-validation below measures agreement with \
                     these labels, not accuracy: label a few hundred rows to know more"
                )
            }
            WeakMethod::ClassTexts => match self.estimated_accuracy {
                Some(estimate) => format!(
                    "there are no rows: the model has read the texts of its classes alone; of {} \
                     texts, each left out in turn, {} fall to their own class, and texts of \
                     another kind may fare worse",
                    self.held_out_rows,
                    percent(estimate)
                ),
                None => {
                    "there are no rows: the model has read the names of its classes alone, and \
                         how well it does cannot be known: label some rows to know, or give the \
                         classes descriptions and examples"
                        .to_owned()
                }
            },
        }
    }

    /// How labels came about, for a parenthesis.
    fn stages(&self, first: &str) -> String {
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        let (Some(rounds), Some(kept)) = (self.rounds, self.kept_labels) else {
            return String::new();
        };
        let views = self.view_agreement.map_or_else(String::new, |share| {
            format!(", and halves of the features agree on {}", percent(share))
        });
        format!(" ({rounds} rounds; {} are still the{first}{views})", percent(kept))
    }
}
