//! What follows an answer: the mirror is asked as well, the canary moves on or goes back.

use std::sync::Arc;

use corral_observation::Sample;
use corral_types::{Timestamp, WorkspaceId};

use crate::canary::Verdict;
use crate::observing::{self, Asked};
use crate::route::Route;
use crate::routing::{Canary, CanaryEnd, Routing, Selector, Traffic};
use crate::{Answer, MIRRORED, Question, RoutingError, Serving, ServingError};

impl Serving {
    /// Asks another version in the background, compares its answers and throws them away.
    pub(crate) fn mirror(
        &self,
        workspace: WorkspaceId,
        route: &Arc<Route>,
        (number, answers, sample): (u32, &[Answer], Option<Sample>),
        to: u32,
        question: Question,
    ) {
        let count = |outcome: &'static str| {
            metrics::counter!(MIRRORED.name, "outcome" => outcome).increment(1);
        };
        let Ok(permit) = self.shared.mirrored.clone().try_acquire_owned() else {
            return count("dropped");
        };
        let firsts: Vec<Option<String>> = answers.iter().map(first_class).collect();
        let (serving, route) = (self.clone(), route.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let mirrored = serving.shared.ask(route.endpoint, route.version(to), question).await;
            let theirs = match &mirrored {
                Ok(Asked { answers, .. }) => answers,
                Err(error) => {
                    count("failed");
                    tracing::warn!(endpoint = %route.name, version = to, %error, "mirror failed");
                    return;
                }
            };
            if let Some(mut sample) = sample {
                sample.mirrored(to, theirs.iter().map(observing::text_answer).collect());
            }
            let pairs = firsts.iter().zip(theirs);
            let agreed = pairs.filter(|(ours, theirs)| **ours == first_class(theirs)).count();
            let texts = firsts.len();
            count(if agreed == texts { "same" } else { "other" });
            tracing::debug!(endpoint = %route.name, version = to, texts, agreed, "mirrored");
            if let Some((canary, verdict)) = route.compared(number, texts as u32, agreed as u32) {
                serving.follow(workspace, &route, canary, verdict);
            }
        });
    }

    /// Does what a canary's requests have shown to be right.
    pub(crate) fn follow(
        &self,
        workspace: WorkspaceId,
        route: &Route,
        canary: &Canary,
        verdict: Verdict,
    ) {
        if verdict == Verdict::Wait {
            return;
        }
        let (serving, name, seen) = (self.clone(), route.name.clone(), canary.clone());
        tokio::spawn(async move {
            let moved = serving.change_routing(workspace, name.clone(), |routing, _| {
                // Whoever changed the traffic meanwhile, people or another request, has the word.
                if routing.traffic == Traffic::Canary(seen.clone()) {
                    decide(routing, &seen, verdict);
                    Ok(())
                } else {
                    Err(RoutingError::MovedOn)
                }
            });
            let (from, to) = (seen.from, seen.to);
            match moved.await {
                Ok(_) => tracing::info!(endpoint = %name, from, to, ?verdict, "canary"),
                Err(ServingError::Routing(RoutingError::MovedOn)) => {}
                Err(error) => {
                    tracing::error!(endpoint = %name, from, to, %error, "the canary cannot move");
                }
            }
        });
    }
}

fn first_class(answer: &Answer) -> Option<String> {
    answer.scored.first().map(|scored| scored.id.clone())
}

/// What becomes of the routing when a canary's step is over.
fn decide(routing: &mut Routing, canary: &Canary, verdict: Verdict) {
    let Canary { from, to, .. } = *canary;
    let gone_back = match verdict {
        Verdict::Wait => return,
        Verdict::Advance if canary.step + 1 < canary.steps.len() => {
            let step = canary.step + 1;
            routing.traffic = Traffic::Canary(Canary { step, ..canary.clone() });
            return;
        }
        Verdict::Advance => None,
        Verdict::GoBack(why) => Some(why),
    };
    let stays = if gone_back.is_some() { from } else { to };
    routing.traffic = Traffic::To { version: Selector::Version(stays) };
    routing.last_canary = Some(CanaryEnd { from, to, gone_back, at: Timestamp::now() });
}
