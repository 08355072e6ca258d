//! A recipe's files: fetched from where they are published, or found in a folder.

use std::path::Path;
use std::time::Duration;

use corral_types::{ErrorKind, Failure, display_bytes, source_chain};
use sha2::{Digest, Sha256};

use super::{Recipe, RecipeSource};

/// The largest file that is read: recipes are of facts, not of corpora.
const MAX_SOURCE_BYTES: u64 = 256 << 20;
/// How long a file may take to arrive: the largest of today over a slow line.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// A file of a recipe, as it was found.
pub struct Found {
    pub file: String,
    pub address: String,
    /// With LF line ends.
    pub text: String,
    pub sha256: String,
    /// Whether these are the bytes that the recipe was written for.
    pub is_expected: bool,
}

/// Fetches the files of a recipe. Other bytes than the recipe's are refused: nobody has looked
/// at what they would make.
///
/// # Errors
/// When an address cannot be reached, answers with something else, or is too large.
pub async fn fetch(recipe: &Recipe) -> Result<Vec<Found>, Failure> {
    let http = reqwest::Client::builder().timeout(FETCH_TIMEOUT).build().map_err(|error| {
        Failure::new(ErrorKind::Internal, format!("set up the HTTP client: {error}"))
    })?;
    let mut found = Vec::new();
    for source in &recipe.sources {
        eprintln!("corral: fetching {}", source.address);
        let bytes = fetch_one(&http, source).await?;
        let one = read(source, bytes)?;
        if !one.is_expected {
            let what = format!(
                "{} has other bytes than this recipe was written for: SHA-256 {} and not {}",
                source.address, one.sha256, source.sha256
            );
            return Err(Failure::new(ErrorKind::Conflict, what).with_hint(by_hand(recipe)));
        }
        found.push(one);
    }
    Ok(found)
}

async fn fetch_one(http: &reqwest::Client, source: &RecipeSource) -> Result<Vec<u8>, Failure> {
    let failed = |error: reqwest::Error| {
        let mut failure = Failure::new(ErrorKind::Unavailable, format!("fetch {}", source.address));
        failure.causes = source_chain(&error.without_url());
        failure.with_hint(format!(
            "fetch it by other means as `{}` into a folder, and name that by --from",
            source.file
        ))
    };
    let response = http.get(&source.address).send().await;
    let mut response = response.and_then(reqwest::Response::error_for_status).map_err(failed)?;
    let mut bytes = Vec::new();
    while let Some(block) = response.chunk().await.map_err(failed)? {
        bytes.extend_from_slice(&block);
        if bytes.len() as u64 > MAX_SOURCE_BYTES {
            return Err(too_large(&source.address));
        }
    }
    Ok(bytes)
}

/// Reads the files of a recipe from a folder, where they have the names that the publisher gives
/// them. Other bytes than the recipe's, such as a later edition, are taken, and told of.
///
/// # Errors
/// When one is not there or cannot be read.
pub fn find_in(recipe: &Recipe, folder: &Path) -> Result<Vec<Found>, Failure> {
    let mut found = Vec::new();
    for source in &recipe.sources {
        let path = folder.join(&source.file);
        let failed = |error: std::io::Error| {
            let kind = match error.kind() {
                std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                _ => ErrorKind::Invalid,
            };
            Failure::new(kind, format!("read {}: {error}", path.display()))
                .with_hint(by_hand(recipe))
        };
        if std::fs::metadata(&path).map_err(failed)?.len() > MAX_SOURCE_BYTES {
            return Err(too_large(&path.display().to_string()));
        }
        let one = read(source, std::fs::read(&path).map_err(failed)?)?;
        if !one.is_expected {
            eprintln!(
                "corral: {} has other bytes than the recipe was written for; the data card says so",
                path.display()
            );
        }
        found.push(one);
    }
    Ok(found)
}

fn by_hand(recipe: &Recipe) -> String {
    let files: Vec<String> = recipe.sources.iter().map(|it| format!("`{}`", it.file)).collect();
    format!("--from DIR takes {} from a folder", files.join(", "))
}

fn too_large(place: &str) -> Failure {
    let limit = display_bytes(MAX_SOURCE_BYTES);
    Failure::new(ErrorKind::TooLarge, format!("{place} is larger than {limit}"))
}

fn read(source: &RecipeSource, bytes: Vec<u8>) -> Result<Found, Failure> {
    let text = String::from_utf8(bytes).map_err(|_| {
        Failure::new(ErrorKind::Invalid, format!("{} is not UTF-8 text", source.file))
    })?;
    let text = if text.contains('\r') { text.replace("\r\n", "\n") } else { text };
    let digest = Sha256::digest(text.as_bytes());
    let sha256: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Found {
        file: source.file.clone(),
        address: source.address.clone(),
        is_expected: sha256 == source.sha256,
        text,
        sha256,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::recipe;

    #[test]
    fn a_file_is_known_by_its_content_whatever_ends_its_lines() {
        let text = "a\tb\n1\t2\n";
        let source = RecipeSource {
            file: "t.txt".to_owned(),
            address: "https://example.org/t.txt".to_owned(),
            // `printf 'a\tb\n1\t2\n' | sha256sum`
            sha256: "8db4d84da82d0020646ed808dff19ce516a74a948820cc5cdbbe1ce69c7e037d".to_owned(),
        };
        for written in [text.to_owned(), text.replace('\n', "\r\n")] {
            let found = read(&source, written.into_bytes()).unwrap();
            assert!(found.is_expected && found.text == text, "{}", found.sha256);
        }
        assert!(!read(&source, b"a\tc\n".to_vec()).unwrap().is_expected);
        assert!(read(&source, vec![0xff, 0xfe]).is_err());
        let recipe = recipe("occupations").unwrap();
        let failure = find_in(&recipe, Path::new("/no/such/folder")).err().unwrap();
        assert_eq!(failure.kind, ErrorKind::NotFound);
        assert!(failure.hint.unwrap().contains("`Alternate Titles.txt`"));
    }
}
