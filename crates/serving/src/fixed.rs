//! Answers that are the same for every text.

use serde::{Deserialize, Serialize};

use crate::{Answer, Question, Scored, ServingError};

/// The most classes of a fixed answer.
pub const MAX_FIXED_LABELS: usize = 100;

/// What a version without a model answers for every text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixedAnswer {
    /// The most probable class first; none to name no class.
    pub labels: Vec<FixedLabel>,
}

/// A class of a fixed answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixedLabel {
    pub id: String,
    /// The id where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default = "certain")]
    pub probability: f32,
}

fn certain() -> f32 {
    1.0
}

impl FixedAnswer {
    /// # Errors
    /// When a probability is none, or there are too many classes.
    pub fn check(&self) -> Result<(), ServingError> {
        if self.labels.len() > MAX_FIXED_LABELS {
            return Err(ServingError::TooManyFixedLabels { found: self.labels.len() });
        }
        let mut probabilities = self.labels.iter().map(|label| label.probability);
        match probabilities.find(|found| !(0.0..=1.0).contains(found)) {
            Some(found) => Err(ServingError::Probability { field: "probability", found }),
            None => Ok(()),
        }
    }

    /// The answers to a question that was checked.
    pub fn answer(&self, question: &Question) -> Vec<Answer> {
        let asked = |label: &&FixedLabel| {
            question.threshold.is_none_or(|threshold| label.probability >= threshold)
                && question.prefix.as_ref().is_none_or(|prefix| label.id.starts_with(prefix))
        };
        let scored = |label: &FixedLabel| Scored {
            id: label.id.clone(),
            name: label.name.clone().unwrap_or_else(|| label.id.clone()),
            probability: label.probability,
        };
        let labels = self.labels.iter().filter(asked).take(question.top_k as usize).map(scored);
        let answer = Answer { scored: labels.collect(), ..Answer::default() };
        vec![answer; question.texts.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_answer_keeps_to_the_question() {
        let json = r#"{"labels":[{"id":"a/b","probability":0.75},{"id":"c","name":"See"}]}"#;
        let fixed: FixedAnswer = serde_json::from_str(json).unwrap();
        fixed.check().unwrap();
        let question = |top_k, threshold, prefix: Option<&str>| {
            let texts = vec![String::new(); 2];
            let prefix = prefix.map(str::to_owned);
            Question { texts, top_k, threshold, prefix, ..Question::default() }
        };
        let ids = |question: Question| -> Vec<Vec<String>> {
            let answers = fixed.answer(&question);
            answers.into_iter().map(|a| a.scored.into_iter().map(|s| s.id).collect()).collect()
        };
        assert_eq!(ids(question(1, None, None)), [["a/b"], ["a/b"]]);
        assert_eq!(ids(question(9, None, None))[0], ["a/b", "c"]);
        assert_eq!(ids(question(9, Some(0.8), None))[0], ["c"]);
        assert_eq!(ids(question(9, None, Some("a")))[0], ["a/b"]);
        let names = fixed.answer(&question(2, None, None));
        assert_eq!((&*names[0].scored[0].name, &*names[0].scored[1].name), ("a/b", "See"));
        let wrong = FixedAnswer {
            labels: vec![FixedLabel { id: "x".to_owned(), name: None, probability: 1.5 }],
        };
        assert!(wrong.check().is_err());
    }
}
