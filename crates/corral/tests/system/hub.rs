//! Ready classifiers from published files in a folder.

use std::path::Path;

use crate::support::Corral;

/// A small edition of O*NET's tables: three occupations that words tell apart.
fn write_edition(folder: &Path) {
    let occupations = [
        ("11-1011.00", "Chief Executives", "director", ["finance", "sales", "regional", "art"]),
        ("29-1141.00", "Registered Nurses", "nurse", ["night", "school", "clinic", "ward"]),
        ("53-3051.00", "Bus Drivers", "driver", ["city", "coach", "shuttle", "relief"]),
    ];
    let mut data = "O*NET-SOC Code\tTitle\tDescription\n".to_owned();
    let mut titles = "O*NET-SOC Code\tAlternate Title\tShort Title\tSource(s)\n".to_owned();
    let mut reported = "O*NET-SOC Code\tReported Job Title\tShown in My Next Move\n".to_owned();
    for (code, name, word, kinds) in occupations {
        data += &format!("{code}\t{name}\tThe work of a {word}.\n");
        for kind in kinds {
            for rank in ["", "senior ", "assistant ", "lead ", "junior "] {
                titles += &format!("{code}\t{rank}{kind} {word}\tn/a\t02\n");
            }
        }
        reported += &format!("{code}\t{word}\tY\n");
    }
    let files = [
        ("Occupation Data.txt", data),
        ("Alternate Titles.txt", titles),
        // As a publisher's server or an editor may end lines.
        ("Sample of Reported Titles.txt", reported.replace('\n', "\r\n")),
    ];
    for (file, text) in files {
        std::fs::write(folder.join(file), text).unwrap();
    }
}

#[test]
fn a_recipe_ends_with_an_endpoint_a_report_and_a_card() {
    let corral = Corral::start();
    let listed = corral.json(&["hub", "ls"]);
    assert_eq!(listed["items"][0]["name"], "occupations");
    assert_eq!(listed["items"][0]["licence"]["name"], "CC BY 4.0");

    let folder = tempfile::tempdir().unwrap();
    write_edition(folder.path());
    let from = folder.path().display().to_string();
    let install = ["hub", "install", "occupations", "--from", &from, "--trials", "2"];
    let result = corral.json(&[&install[..], &["--encoder", "none"]].concat());
    assert_eq!(result["endpoint"], "occupations");

    let answer = corral.json(&["predict", "occupations", "senior ward nurse", "-k", "3"]);
    assert_eq!(answer["predictions"][0]["labels"][0]["id"], "29-1141.00");
    assert_eq!(answer["predictions"][0]["labels"][0]["name"], "Registered Nurses");
    let card = corral.run(&["hub", "card", "occupations"]);
    for part in ["CC BY 4.0", "3 classes", "63 distinct texts", "Known limits", "another edition"] {
        assert!(card.contains(part), "{part} in {card}");
    }
    assert!(corral.run(&["model", "report", "occupations"]).contains("cross-valid."));
    let model = corral.json(&["model", "show", "occupations"]);
    assert_eq!(model["tags"]["recipe"], "occupations");
    assert_eq!(model["metadata"]["data_card"].as_str().unwrap().trim(), card.trim());

    // Again it goes on from what is there, and makes the next version.
    let again = corral.json(&[&install[..], &["--encoder", "none"]].concat());
    assert_eq!(again["version"], 2);
    let endpoint = corral.json(&["endpoint", "show", "occupations"]);
    assert_eq!(endpoint["versions"].as_array().unwrap().len(), 2);

    let (code, said) = corral.fails(&["hub", "install", "ocupations"]);
    assert!(code == 4 && said.contains("`occupations`"), "{said}");
    let empty = tempfile::tempdir().unwrap().path().display().to_string();
    let (code, said) = corral.fails(&["hub", "install", "occupations", "--from", &empty]);
    assert!(code == 4 && said.contains("Occupation Data.txt"), "{said}");
    std::fs::write(folder.path().join("Alternate Titles.txt"), "Code\tTitle\nx\ty\n").unwrap();
    let (code, said) = corral.fails(&[&install[..], &["--name", "other"]].concat());
    assert!(code == 2 && said.contains("`Alternate Title`"), "{said}");
    let (code, _) = corral.fails(&["hub", "card", "nothing"]);
    assert_eq!(code, 4);
}
