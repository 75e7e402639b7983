//! `analyze`: the same verdicts, from files.

mod args;
mod facts;
mod incident;
mod progress;

use anyhow::{Result, bail};

pub(super) use self::args::Args;
use self::incident::Incident;
use self::progress::Progress;
use super::Exit;
use super::judge::Judge;
use crate::model::Evidence;
use crate::source::{Merge, Next, Skipped};

/// A file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct BadInput(pub(super) String);

/// Judges the files: those of one incident together, in the order of time.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let facts = args.facts()?;
    let is_replay = args.replay.is_asked();
    let mut judge = if is_replay { Judge::default() } else { args.judge()? };
    let mut is_bad = false;
    let (incidents, refused) = incident::sort(&args.files, &args.said());
    for why in refused {
        is_bad = true;
        eprintln!("ept-trace: {why}");
    }
    if is_replay && incidents.len() > 1 {
        bail!("the files are of several machines: give those of one");
    }
    for incident in incidents {
        judge.next_machine();
        if let Some(facts) = &facts {
            facts.tell(&mut judge)?;
        }
        is_bad |= !analyze(incident, args, &mut judge)?;
    }
    if is_replay {
        let known = judge.known();
        let whole: Vec<_> = known.history().whole_vms().collect();
        let vm = args.replay.choose(&whole)?;
        let Some(image) = known.history().image(vm) else {
            bail!("the history of VM {vm} is not known from its begin on");
        };
        return args.replay.show(image, known.facts(), args.is_json());
    }
    judge.finish()?;
    Ok(match Exit::of(judge.summary()) {
        Exit::Mismatch => Exit::Mismatch,
        _ if is_bad => Exit::BadInput,
        exit => exit,
    })
}

/// Judges one incident, up to the time that is asked for; whether all of its files could be read.
fn analyze(incident: Incident, args: &Args, judge: &mut Judge) -> Result<bool> {
    let Incident { names, sources, caveats } = incident;
    judge.source(&names.join(" + "))?;
    let mut is_good = true;
    let mut has_told = vec![false; names.len()];
    let mut skipped = vec![Skipped::default(); names.len()];
    let mut last = None;
    let until = args.replay.until();
    let mut progress = Progress::new(args.writes_lines_to_terminal());
    for next in Merge::new(sources) {
        match next {
            Next::Event(_, event) if event.time_ns > until => break,
            Next::Event(file, event) => {
                has_told[file] = true;
                progress.tick();
                if last.replace(file) != Some(file) {
                    judge.beware(caveats[file].as_ref());
                }
                judge.event(event)?;
            }
            Next::Skipped(file, places) => skipped[file].append(places),
            Next::Broken(file, err) => {
                is_good = false;
                eprintln!("ept-trace: {}: {err}", names[file]);
                judge.gap(format!("{}: from here on it cannot be read: {err}", names[file]))?;
            }
        }
        if judge.is_unread() {
            break;
        }
    }
    drop(progress);
    for skipped in &skipped {
        judge.skipped(skipped)?;
    }
    for ((name, skipped), has_told) in names.iter().zip(skipped).zip(has_told) {
        for place in &skipped.first {
            eprintln!("ept-trace: {name}: {place} (passed over)");
        }
        if skipped.count > skipped.first.len() as u64 {
            eprintln!("ept-trace: {name}: {} places were passed over in all", skipped.count);
        }
        if !has_told && !judge.is_unread() {
            eprintln!("ept-trace: {name}: nothing in it says anything of KVM's tables");
        }
        is_good &= skipped.count == skipped.harmless && (has_told || judge.is_unread());
    }
    Ok(is_good)
}

/// What speaks against a mismatch that rests on a file like this.
fn caveat(name: &str, format: &str) -> Evidence {
    Evidence::new(
        "the file",
        name,
        format!(
            "{format} has no checksums: if it is damaged, a changed \
        byte can look like this"
        ),
    )
}
