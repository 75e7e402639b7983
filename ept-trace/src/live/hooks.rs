//! The hooks of a session: attached one by one, counted, and taken down in the reverse order.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ept_trace_common::abi::{Counters, Hook};

use super::attachment::{At, Attachment, KprobeEvent, attach};
use super::counters;
use super::object::Object;
use crate::analysis::HookCounts;
use crate::kernel::{Attach, AttachPlan, PAIRS, Tracefs, missing_half};

/// How long calls that were entered before detaching have to return; those that set up an MMU do
/// not sleep.
const LAST_RETURNS: Duration = Duration::from_millis(5);

/// A hook that is attached, or was.
#[derive(Debug)]
struct LiveHook {
    hook: Hook,
    name: String,
    how: Attach,
    attachment: Option<Attachment>,
    event: Option<KprobeEvent>,
    /// Hits that the kernel counted before the program was set on the event.
    unseen: u64,
    /// Hits that the kernel counted until the program was taken off.
    hits: u64,
    /// Calls that the program counted before, on an event that was removed.
    fired_before: u64,
    /// Losses that were shown already.
    shown: u64,
}

/// The hooks of a session.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    live: Vec<LiveHook>,
    /// The last counts of hooks that were removed, and may be set again.
    removed: Vec<(Hook, HookCounts)>,
}

impl LiveHook {
    /// Takes the program off its event.
    fn detach(&mut self, tracefs: &Tracefs) {
        // Read while the program still sees every hit, and compared with what it counted later: so
        // the edge can hide a miss, and never invent one.
        if self.attachment.is_some()
            && let Some(event) = &self.event
            && let Ok((hits, _)) = event.profile(tracefs)
        {
            self.hits = hits;
        }
        self.attachment = None;
    }
}

impl Hooks {
    /// Attaches every hook that the plan has chosen and that is not attached yet. One that the
    /// kernel refuses is put down in the plan as refused; whether enough is left is for the plan
    /// to say.
    pub(super) fn attach(&mut self, plan: &mut AttachPlan, object: &mut Object, tracefs: &Tracefs) {
        self.remove_refused(plan, object, tracefs);
        let mut order: Vec<_> = plan.hooks.iter_mut().collect();
        // An outcome before its entry: an outcome without an entry is a call that began before us,
        // an entry without an outcome would look like a loss.
        order.sort_by_key(|planned| !is_outcome(planned.hook));
        for planned in order {
            let Ok(how) = &planned.attach else { continue };
            if self.live.iter().any(|live| live.hook == planned.hook) {
                continue;
            }
            match attach_one(planned.hook, &planned.name, how, object, tracefs) {
                Ok(live) => self.live.push(live),
                Err(err) => planned.attach = Err(format!("{err:#}")),
            }
        }
        self.remove_halves(plan, object, tracefs);
    }

    /// Removes what is set inside a function: its module may have been loaded again as another
    /// build, and its code is searched anew, without a breakpoint of ours in it.
    pub(super) fn remove_inner(&mut self, object: &Object, tracefs: &Tracefs) {
        self.remove_where(|live| live.hook == Hook::EptpWrite, object, tracefs);
    }

    /// Removes hooks on functions that turn out to have other arguments.
    fn remove_refused(&mut self, plan: &AttachPlan, object: &Object, tracefs: &Tracefs) {
        let is_refused = |live: &LiveHook| {
            matches!(live.hook, Hook::VmxLoadPgd | Hook::SvmLoadPgd)
                && plan.hooks.iter().any(|hook| hook.hook == live.hook && hook.attach.is_err())
        };
        self.remove_where(is_refused, object, tracefs);
    }

    /// Removes a hook whose other half could not be attached: it sees nothing.
    fn remove_halves(&mut self, plan: &mut AttachPlan, object: &Object, tracefs: &Tracefs) {
        plan.refuse_halves();
        let hooks: Vec<_> = self.live.iter().map(|live| live.hook).collect();
        self.remove_where(|live| missing_half(live.hook, &hooks).is_some(), object, tracefs);
    }

    fn remove_where(&mut self, is: impl Fn(&LiveHook) -> bool, object: &Object, tracefs: &Tracefs) {
        let (gone, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.live).into_iter().partition(|live| is(live));
        self.live = kept;
        for mut live in gone {
            live.detach(tracefs);
            match self.counts_of(&live, object, tracefs) {
                Ok(counts) => {
                    self.removed.retain(|(hook, _)| *hook != live.hook);
                    self.removed.push((live.hook, counts));
                }
                Err(err) => log::warn!("the counts of {} are lost: {err:#}", live.name),
            }
            if let Some(event) = live.event.take() {
                event.remove(tracefs);
            }
        }
    }

    /// Whether a hook is attached.
    pub(super) fn has(&self, hook: Hook) -> bool {
        self.live.iter().any(|live| live.hook == hook && live.attachment.is_some())
    }

    /// Takes the programs off, every entry before its outcome. Tells whether there was any to
    /// take.
    pub(super) fn detach(&mut self, tracefs: &Tracefs) -> bool {
        let mut any = false;
        let mut attached: Vec<_> =
            self.live.iter_mut().filter(|live| live.attachment.is_some()).collect();
        attached.sort_by_key(|live| is_outcome(live.hook));
        let mut are_returning = false;
        for live in attached {
            any = true;
            if is_outcome(live.hook) && !are_returning {
                are_returning = true;
                sleep(LAST_RETURNS);
            }
            live.detach(tracefs);
        }
        any
    }

    /// Takes everything down, and leaves nothing in tracefs.
    pub(super) fn remove(&mut self, tracefs: &Tracefs) {
        self.detach(tracefs);
        for mut live in self.live.drain(..).rev() {
            if let Some(event) = live.event.take() {
                event.remove(tracefs);
            }
        }
    }

    /// What became of the calls of every hook so far.
    pub(super) fn counts(&self, object: &Object, tracefs: &Tracefs) -> Result<Vec<HookCounts>> {
        let live = self.live.iter().map(|live| self.counts_of(live, object, tracefs));
        let is_live = |hook: Hook| self.live.iter().any(|live| live.hook == hook);
        let removed = self.removed.iter().filter(|(hook, _)| !is_live(*hook));
        live.chain(removed.map(|(_, counts)| Ok(counts.clone()))).collect()
    }

    fn counts_of(&self, live: &LiveHook, object: &Object, tracefs: &Tracefs) -> Result<HookCounts> {
        let counters = object.counters(live.hook);
        let is_detached = live.attachment.is_none();
        let not_run = if is_detached && live.event.is_some() {
            // What the kernel hit and the program has not seen.
            let fired = counters.fired.saturating_sub(live.fired_before);
            live.hits.saturating_sub(live.unseen).saturating_sub(fired)
        } else {
            object.program(live.hook).map_or(0, counters::recursion_misses)
        };
        let mut missed = not_run;
        if let Some(event) = &live.event {
            missed += event.profile(tracefs)?.1;
        }
        if is_detached {
            missed = missed.max(self.missing_returns(live.hook, &counters, object));
        }
        let before = self.removed.iter().find(|(hook, _)| *hook == live.hook);
        missed += before.map_or(0, |(_, counts)| counts.missed);
        Ok(HookCounts {
            hook: live.name.clone(),
            fired: counters.fired + missed,
            delivered: counters.delivered,
            filtered: counters.filtered,
            dropped: counters.dropped,
            missed,
        })
    }

    /// Calls that were entered and whose return was not seen. Not every kernel counts a return
    /// that it could not hook, so the two halves are held against each other.
    fn missing_returns(&self, hook: Hook, returns: &Counters, object: &Object) -> u64 {
        let pair = PAIRS.iter().find(|pair| pair.is_same_function && pair.outcome == hook);
        let Some(pair) = pair.filter(|pair| self.live.iter().any(|live| live.hook == pair.entry))
        else {
            return 0;
        };
        let entered = object.counters(pair.entry).delivered;
        // What finds no call of its own is filtered, and so is what is plainly right.
        entered.saturating_sub(returns.fired)
    }

    /// `(hook, records)` lost since this was last asked.
    pub(super) fn losses(
        &mut self,
        object: &Object,
        tracefs: &Tracefs,
    ) -> Result<Vec<(String, u64)>> {
        let counts = self.counts(object, tracefs)?;
        let mut losses = Vec::new();
        // The live ones come first.
        for (live, counts) in self.live.iter_mut().zip(counts) {
            let records = counts.lost().saturating_sub(live.shown);
            if records > 0 {
                live.shown += records;
                losses.push((live.name.clone(), records));
            }
        }
        Ok(losses)
    }
}

/// Whether a hook reads what came of a call that another one remembers.
fn is_outcome(hook: Hook) -> bool {
    PAIRS.iter().any(|pair| pair.outcome == hook)
}

fn attach_one(
    hook: Hook,
    name: &str,
    how: &Attach,
    object: &mut Object,
    tracefs: &Tracefs,
) -> Result<LiveHook> {
    // The verifier first: a program that it refuses needs no event.
    object.load(hook)?;
    let event = match how {
        Attach::Kprobe { place, at_return, deferred } => {
            let at = match (at_return, hook) {
                (false, _) => At::Instruction,
                (true, Hook::TdpFaultReturn | Hook::PageFaultReturn) => At::ReturnOfSleeper,
                (true, _) => At::Return,
            };
            Some(KprobeEvent::create(tracefs, name, place, at, *deferred)?)
        }
        Attach::Tracepoint { .. } => None,
    };
    // An event may have been removed and be made again; the program counts on.
    let before = object.counters(hook);
    let mut live = LiveHook {
        hook,
        name: name.to_owned(),
        how: how.clone(),
        attachment: None,
        event,
        unseen: 0,
        hits: 0,
        fired_before: before.fired,
        shown: before.dropped,
    };
    match set_program(&mut live, object, tracefs) {
        Ok(()) => Ok(live),
        Err(err) => {
            if let Some(event) = live.event.take() {
                event.remove(tracefs);
            }
            Err(err)
        }
    }
}

fn set_program(live: &mut LiveHook, object: &mut Object, tracefs: &Tracefs) -> Result<()> {
    let id = match (&live.how, &live.event) {
        (Attach::Tracepoint { category, name }, _) => tracefs.id(category, name)?,
        (Attach::Kprobe { .. }, Some(event)) => event.id(tracefs)?,
        (Attach::Kprobe { place, .. }, None) => anyhow::bail!("{place} has no event"),
    };
    let program = object.load(live.hook)?;
    live.attachment = Some(attach(program, id).context("the event does not take the program")?);
    live.unseen = unseen_hits(live, object, tracefs)?;
    Ok(())
}

/// Hits that the kernel has counted and the program has not: those between the making of the
/// event and the setting of the program. Asked until the two stand still together.
fn unseen_hits(live: &LiveHook, object: &Object, tracefs: &Tracefs) -> Result<u64> {
    let Some(event) = &live.event else { return Ok(0) };
    let mut unseen = 0;
    for _ in 0..100 {
        let (before, _) = event.profile(tracefs)?;
        let counted = object.counters(live.hook).fired;
        let fired = counted.saturating_sub(live.fired_before);
        let (after, _) = event.profile(tracefs)?;
        unseen = before.saturating_sub(fired);
        if before == after {
            break;
        }
    }
    Ok(unseen)
}
