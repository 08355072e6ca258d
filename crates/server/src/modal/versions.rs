//! What differs between versions of the client.

/// A version of a client, as it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientVersion {
    text: String,
    number: (u32, u32, u32),
    /// It is one of the clients in other languages.
    is_other_language: bool,
}

/// The image builder's versions that a client knows: from which client version on, and which is
/// the newest that it knows. A client refuses one that it does not know. Where the exact version
/// is not known that learned of one, the first that is known to have it stands.
const BUILDERS: [((u32, u32, u32), &str); 4] = [
    ((1, 6, 0), "2026.10"),
    ((1, 3, 5), "2025.06"),
    ((0, 64, 0), "2024.10"),
    ((0, 0, 0), "2024.04"),
];

/// What clients in other languages are told; they build no images of these.
const OTHER_LANGUAGES_BUILDER: &str = "2025.06";

impl ClientVersion {
    pub fn of(text: &str, other_language: Option<&str>) -> Self {
        let mut numbers = text.split('.').map(|part| {
            let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().unwrap_or(0)
        });
        let mut next = || numbers.next().unwrap_or(0);
        Self {
            number: (next(), next(), next()),
            text: text.chars().take(64).collect(),
            is_other_language: other_language.is_some(),
        }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The newest version of the image builder that this client knows.
    pub fn builder(&self) -> &'static str {
        if self.is_other_language {
            return OTHER_LANGUAGES_BUILDER;
        }
        let known = BUILDERS.iter().find(|(since, _)| self.number >= *since);
        known.map_or(BUILDERS[BUILDERS.len() - 1].1, |(_, builder)| builder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_is_told_a_builder_that_it_knows() {
        let builder = |text: &str| ClientVersion::of(text, None).builder();
        assert_eq!(builder("0.62.236"), "2024.04");
        assert_eq!(builder("0.64.235"), "2024.10");
        assert_eq!(builder("0.73.173"), "2024.10");
        assert_eq!(builder("1.0.5"), "2024.10");
        assert_eq!(builder("1.3.5"), "2025.06");
        assert_eq!(builder("1.6.4.dev3"), "2026.10");
        assert_eq!(builder("2.0.0"), "2026.10");
        assert_eq!(builder("nonsense"), "2024.04");
        assert_eq!(ClientVersion::of("0.11.1", Some("modal-js/0.11.1")).builder(), "2025.06");
    }
}
