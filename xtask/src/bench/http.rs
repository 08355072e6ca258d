//! Predictions over HTTP.

use serde_json::json;

use super::REPETITIONS;
use super::load::ask;
use super::report::Figure;
use super::server::{Server, banking_texts};

pub fn run() -> anyhow::Result<Vec<Figure>> {
    let server = Server::start()?;
    server.deploy_banking()?;
    let body = |text: String| json!({"texts": [text]}).to_string();
    let path = "/v1/endpoints/banking/predict";
    let requests: Vec<(String, String)> =
        banking_texts()?.into_iter().map(|text| (path.to_owned(), body(text))).collect();
    let (mut medians, mut tails, mut own_share) = (Vec::new(), Vec::new(), Vec::new());
    // Each repetition is a connection of its own over all texts, each once.
    for _ in 0..REPETITIONS {
        let measured = ask(&server.address, 1, &requests)?;
        medians.push(measured.percentile_ms(50));
        tails.push(measured.percentile_ms(99));
        own_share.push(measured.requests_per_s());
    }
    let note = format!(
        "{} texts of Banking77's test split, each once, one connection, a lexical model of 77 \
         classes; the load generator is one blocking thread on the same two cores",
        requests.len()
    );
    let figure = |what: &str, asked: &str, unit: &str, values| {
        Figure::new(what, asked, unit, values, note.clone())
    };
    Ok(vec![
        figure("one lexical prediction, p50", "≤ 0.35 ms", "ms", medians),
        figure("p99", "", "ms", tails),
        figure("rate on that connection", "", "requests/s", own_share),
    ])
}
