//! The state of a core in words, for comparing two.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::core::Core;
use crate::slab::NOWHERE;
use crate::state::{Inputs, Phase};

/// What two cores have in common that are the same, each line by what it is about.
pub(super) fn describe(core: &Core) -> BTreeMap<String, String> {
    let mut lines = BTreeMap::new();
    for (_, function) in core.functions.iter() {
        let usage = function.usage;
        let line = format!(
            "{:?} retired {:?} queued {} waiting {} running {} calls {} containers {} used {} {} {}",
            function.settings,
            function.retired_at,
            function.queued,
            function.waiting,
            function.running,
            function.calls,
            function.containers.len(),
            usage.cpu_ms,
            usage.wall_ms,
            usage.starts(),
        );
        lines.insert(function.settings.function.to_string(), line);
    }
    for (_, container) in core.containers.iter() {
        let mut running: Vec<_> = container
            .running
            .iter()
            .map(|&place| core.input_id(&core.inputs[place]).to_string())
            .collect();
        running.sort();
        let mut interrupted = container.interrupted.clone();
        interrupted.sort();
        let line = format!(
            "function {} version {} at {:?} started {:?} ready {:?} draining {:?} running {running:?} \
             interrupted {interrupted:?} given {}",
            core.functions[container.function].settings.function,
            container.version,
            container.requested_at,
            container.started,
            container.ready_at,
            container.draining_since,
            container.inputs_given,
        );
        lines.insert(container.id.to_string(), line);
    }
    for (_, call) in core.calls.iter() {
        let mut line = format!(
            "function {} {:?} {:?} finished {} cancelled {} counts {:?} last {} chunks {:?};",
            core.functions[call.function].settings.function,
            call.kind,
            call.invocation,
            call.is_finished,
            call.is_cancelled,
            core.counts(call),
            core.last_entry(call),
            call.extra.as_ref().map(|extra| [extra.chunks[0].last, extra.chunks[1].last]),
        );
        if let Inputs::Many(many) = &call.inputs {
            write!(line, " cleared {}", many.cleared).unwrap();
        }
        for place in call.places().filter(|&place| place != NOWHERE) {
            let input = &core.inputs[place];
            let place = match input.phase {
                Phase::Running => core.containers[input.place].id.to_string(),
                Phase::Done => input.place.to_string(),
                _ => String::new(),
            };
            let at = if input.phase == Phase::Queued { None } else { Some(input.at) };
            write!(
                line,
                " [{} {:?} {place} at {at:?} since {:?} tried {} {} {} {} {:?}]",
                input.index,
                input.phase,
                input.since,
                input.retries,
                input.failed,
                input.internal,
                core.methods.name(input.method),
                input.body,
            )
            .unwrap();
        }
        lines.insert(call.key.call().to_string(), line);
    }
    let totals = format!(
        "unfinished {} resident {} waiting {} deadlines {}",
        core.unfinished,
        core.resident_bytes,
        core.waiting.len(),
        core.deadlines.len()
    );
    lines.insert("all".to_owned(), totals);
    lines
}

/// Panics where counts, lists and links of a core disagree.
pub(super) fn check(core: &Core) {
    let mut linked = 0;
    for (place, function) in core.functions.iter() {
        let queued: Vec<u32> = core.queued(place).collect();
        assert_eq!(queued.len(), function.queued as usize, "the queue of {:?}", function.settings);
        linked += queued.len();
        for input in queued {
            assert_eq!(core.inputs[input].phase, Phase::Queued);
        }
        let running = function.containers.iter().map(|&place| core.containers[place].running.len());
        assert_eq!(running.sum::<usize>(), function.running as usize);
    }
    let (mut queued, mut waiting, mut running, mut bytes) = (0, 0, 0, 0);
    for (place, input) in core.inputs.iter() {
        bytes += input.body.len();
        match input.phase {
            Phase::Queued => queued += 1,
            Phase::Waiting => {
                waiting += 1;
                assert!(core.waiting.contains(&(input.at, place)));
            }
            Phase::Running => {
                running += 1;
                assert!(core.deadlines.contains(&(input.at, place)));
                assert!(core.containers[input.place].running.contains(&place));
            }
            Phase::Done => {}
        }
        assert_eq!(core.input(core.input_id(input)), Some(place));
    }
    assert_eq!((linked, core.waiting.len(), core.deadlines.len()), (queued, waiting, running));
    assert_eq!(core.unfinished, queued + waiting + running);
    for (_, call) in core.calls.iter() {
        let chunks = call.extra.iter().flat_map(|extra| &extra.chunks);
        bytes += chunks.map(|chunks| chunks.bytes).sum::<usize>();
        let (total, done) = core.counts(call);
        let phases = call.places().map(|place| core.inputs[place].phase);
        assert_eq!(call.places().count(), total as usize);
        assert_eq!(phases.filter(|&phase| phase == Phase::Done).count(), done as usize);
    }
    assert_eq!(core.resident_bytes, bytes);
}
