//! A run of live capture, from attaching to the last count.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use aya::maps::{MapData, RingBuf};
use ept_trace_common::abi::{ConfigureRecord, Fields, Hook};
use tokio::io::unix::AsyncFd;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::attachment::{Attachment, KprobeEvent, attach, remove_stale};
use super::decode::{Decoder, Record, configure_mmu};
use super::janitor::Janitor;
use super::object::Object;
use super::{CannotRun, counters};
use crate::analysis::HookCounts;
use crate::kernel::{Attach, AttachPlan, Host, Modules, Tracefs};
use crate::model::{Event, EventKind};

/// How often losses and modules are looked at, and a ring that has not called is read anyway.
const TICK: Duration = Duration::from_millis(200);

/// A vendor module that has not come to life after so many ticks has failed to load.
const PATIENCE: u32 = 25;

/// What to capture.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only what this process does.
    pub tgid: Option<u32>,
    /// Tracepoints only.
    pub no_kprobes: bool,
    /// Size of the events' ring in bytes; 0 for the ordinary one.
    pub ring_bytes: u32,
    /// Another eBPF object than the one built in.
    pub object: Option<PathBuf>,
}

/// A hook that is attached.
struct LiveHook {
    hook: Hook,
    name: &'static str,
    attachment: Option<Attachment>,
    event: Option<KprobeEvent>,
    /// Hits that the kernel counted before the program was set on the event.
    unseen: u64,
    /// Losses that were shown already.
    shown: u64,
}

/// A run of live capture.
pub struct Session {
    host: Host,
    tracefs: Tracefs,
    plan: AttachPlan,
    fields: Fields,
    object: Object,
    hooks: Vec<LiveHook>,
    events: AsyncFd<RingBuf<MapData>>,
    urgent: AsyncFd<RingBuf<MapData>>,
    decoder: Decoder,
    tick: Interval,
    modules: Modules,
    /// Calls of `kvm_configure_mmu` whose kernel has not been looked at yet.
    held: Vec<ConfigureRecord>,
    /// Ticks since a vendor module began to load.
    loading: Option<u32>,
    // Last, for it is dropped last: it cleans up only when everything else is gone.
    _janitor: Option<Janitor>,
}

impl Session {
    /// Loads and attaches everything that the plan has chosen.
    ///
    /// # Errors
    ///
    /// [`CannotRun`] where this machine has no way to see decisions; else what failed.
    pub fn start(options: &Options) -> Result<Self> {
        super::preflight()?;
        let host = Host::read().map_err(|err| anyhow!(CannotRun(format!("{err:#}"))))?;
        let tracefs = Tracefs::open().map_err(|err| anyhow!(CannotRun(format!("{err:#}"))))?;
        let plan = host.plan(&tracefs, !options.no_kprobes);
        plan.sees_decisions()
            .map_err(|why| anyhow!(CannotRun(format!("no decision can be seen here: {why}"))))?;

        let config = host.config(&tracefs, options.tgid);
        let ring_bytes = if options.ring_bytes == 0 { 1 << 20 } else { options.ring_bytes };
        let mut object = Object::open(config, ring_bytes, options.object.as_deref())?;
        object.set_variables(host.variables())?;
        object.forward_logs();

        let makes_kprobes =
            plan.chosen().any(|(_, attach)| matches!(attach, Attach::Kprobe { .. }));
        let janitor = if makes_kprobes {
            remove_stale(&tracefs)?;
            Some(Janitor::start()?)
        } else {
            None
        };
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut session = Self {
            modules: host.modules.clone(),
            fields: config.fields,
            events: polled(object.ring("EVENTS")?)?,
            urgent: polled(object.ring("URGENT")?)?,
            host,
            tracefs,
            plan,
            object,
            hooks: Vec::new(),
            decoder: Decoder::default(),
            tick,
            held: Vec::new(),
            loading: None,
            _janitor: janitor,
        };
        session.attach_all()?;
        Ok(session)
    }

    /// What is known of the machine, as the event that a stream begins with.
    pub fn first_event(&self) -> Event {
        now(EventKind::Facts(Box::new(self.host.facts.clone())))
    }

    /// What was attached, and what not.
    pub fn plan(&self) -> &AttachPlan {
        &self.plan
    }

    /// Attaches in the order of the hooks: an entry before its return, so that no return comes
    /// without its entry.
    fn attach_all(&mut self) -> Result<()> {
        let chosen: Vec<_> =
            self.plan.chosen().map(|(hook, attach)| (hook.clone(), attach.clone())).collect();
        for (planned, how) in chosen {
            let event = match &how {
                Attach::Kprobe { place, at_return, .. } => {
                    Some(KprobeEvent::create(&self.tracefs, planned.name, place, *at_return)?)
                }
                Attach::Tracepoint { .. } => None,
            };
            let id = match (&how, &event) {
                (Attach::Tracepoint { category, name }, _) => self.tracefs.id(category, name)?,
                (_, Some(event)) => event.id(&self.tracefs)?,
                (_, None) => continue,
            };
            // Known from here on, so that it is taken down whatever comes.
            self.hooks.push(LiveHook {
                hook: planned.hook,
                name: planned.name,
                attachment: None,
                event,
                unseen: 0,
                shown: 0,
            });
            let program = self.object.load(planned.hook)?;
            let attachment = attach(program, id)
                .with_context(|| format!("{how} cannot be attached ({})", planned.name))?;
            let unseen = self.hits_before(planned.hook)?;
            if let Some(live) = self.hooks.last_mut() {
                live.attachment = Some(attachment);
                live.unseen = unseen;
            }
        }
        Ok(())
    }

    /// Hits that the kernel has counted and the program has not: those between the making of the
    /// event and the setting of the program. Asked until the two stand still together.
    fn hits_before(&self, hook: Hook) -> Result<u64> {
        let Some(event) = self.hooks.last().and_then(|live| live.event.as_ref()) else {
            return Ok(0);
        };
        for _ in 0..100 {
            let (before, _) = event.profile(&self.tracefs)?;
            let fired = counters::read(&self.object, hook)?.fired;
            let (after, _) = event.profile(&self.tracefs)?;
            if before == after {
                return Ok(before.saturating_sub(fired));
            }
        }
        Ok(0)
    }

    /// Waits for something to happen. Safe to cancel: nothing is taken before it is returned.
    ///
    /// # Errors
    ///
    /// If the rings or the counters can no longer be read.
    pub async fn next(&mut self) -> Result<Vec<Event>> {
        let mut ticked = false;
        tokio::select! {
            ready = self.events.readable() => ready?.clear_ready(),
            ready = self.urgent.readable() => ready?.clear_ready(),
            _ = self.tick.tick() => ticked = true,
        }
        let mut events = self.drain();
        if ticked {
            events.extend(self.look_at_modules()?);
            events.extend(self.look_for_losses()?);
        }
        Ok(events)
    }

    /// Takes all that is in the rings, in the order of time.
    fn drain(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for ring in [&mut self.urgent, &mut self.events] {
            let ring = ring.get_mut();
            while let Some(bytes) = ring.next() {
                match self.decoder.decode(&bytes, &self.fields) {
                    Some(Record::Event(event)) => events.push(event),
                    Some(Record::HardwareSetup(event)) => {
                        self.loading = Some(0);
                        events.push(event);
                    }
                    Some(Record::Configure(record)) => {
                        self.loading = Some(0);
                        self.held.push(record);
                    }
                    Some(Record::Nothing) => {}
                    None => log::error!("a record of {} bytes is not understood", bytes.len()),
                }
            }
        }
        events.sort_by_key(|event| event.time_ns);
        events
    }

    /// Reads the machine anew when a vendor module has come, gone or failed to come.
    fn look_at_modules(&mut self) -> Result<Vec<Event>> {
        let modules = Modules::read();
        let failed = self.loading.as_mut().is_some_and(|ticks| {
            *ticks += 1;
            *ticks > PATIENCE
        });
        let arrived = self.loading.is_some() && modules.vendor_is_live();
        if modules == self.modules && !arrived && !failed {
            return Ok(Vec::new());
        }
        let mut events = Vec::new();
        if self.modules.vendor_is_live() && !modules.vendor_is_live() {
            let reason = format!("{} was unloaded", self.modules.vendor.0);
            events.push(now(EventKind::Gap { reason }));
        }
        self.modules = modules;
        if self.loading.is_some() && !arrived && !failed {
            return Ok(events);
        }
        self.host.refresh()?;
        self.object.set_variables(self.host.variables())?;
        if arrived || failed {
            self.loading = None;
        }
        events.push(now(EventKind::Facts(Box::new(self.host.facts.clone()))));
        for record in self.held.drain(..) {
            let behaviour = &self.host.facts.behaviour;
            events.push(configure_mmu(&record, &self.host.layout, behaviour));
        }
        Ok(events)
    }

    /// Reports records lost since the last look.
    fn look_for_losses(&mut self) -> Result<Vec<Event>> {
        let mut losses = Vec::new();
        for index in 0..self.hooks.len() {
            let counts = self.counts(index)?;
            let live = &mut self.hooks[index];
            let records = counts.lost().saturating_sub(live.shown);
            if records > 0 {
                live.shown += records;
                let hook = live.name.to_owned();
                losses.push(EventKind::Loss { hook, records });
            }
        }
        Ok(losses.into_iter().map(now).collect())
    }

    /// What became of a hook's calls so far.
    fn counts(&self, index: usize) -> Result<HookCounts> {
        let live = &self.hooks[index];
        let counters = counters::read(&self.object, live.hook)?;
        let (hits, not_hit) = match &live.event {
            Some(event) => event.profile(&self.tracefs)?,
            None => (0, 0),
        };
        let is_detached_kprobe = live.event.is_some() && live.attachment.is_none();
        let not_run = if is_detached_kprobe {
            // Both counts stand still: whatever the kernel hit and the program has not seen.
            hits.saturating_sub(live.unseen).saturating_sub(counters.fired)
        } else {
            self.object.program(live.hook).map_or(0, counters::recursion_misses)
        };
        let missed = not_hit + not_run;
        let fired = counters.fired + missed;
        Ok(HookCounts {
            hook: live.name.to_owned(),
            fired,
            delivered: counters.delivered,
            filtered: counters.filtered,
            dropped: counters.dropped,
            missed,
        })
    }

    /// Detaches everything, and returns what was still on its way and the final counts.
    ///
    /// # Errors
    ///
    /// If the counters can no longer be read.
    pub fn finish(mut self) -> Result<(Vec<Event>, Vec<HookCounts>)> {
        // A return before its entry, so that no entry waits for a return that is not seen.
        for live in self.hooks.iter_mut().rev() {
            live.attachment = None;
        }
        let mut events = self.drain();
        if self.loading.is_some() || !self.held.is_empty() {
            self.loading = Some(PATIENCE);
        }
        events.extend(self.look_at_modules()?);
        events.extend(self.look_for_losses()?);
        let counts =
            (0..self.hooks.len()).map(|index| self.counts(index)).collect::<Result<_>>()?;
        Ok((events, counts))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for mut live in self.hooks.drain(..).rev() {
            live.attachment = None;
            if let Some(event) = live.event.take() {
                event.remove(&self.tracefs);
            }
        }
    }
}

fn polled(ring: RingBuf<MapData>) -> std::io::Result<AsyncFd<RingBuf<MapData>>> {
    // SAFETY: the ring owns its descriptor, and shows the same one until it is dropped.
    Ok(unsafe { AsyncFd::register(ring) }?)
}

/// An event of this moment, by the clock of the records, `CLOCK_MONOTONIC`.
fn now(kind: EventKind) -> Event {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    Event { time_ns: seconds * 1_000_000_000 + nanoseconds, kind }
}
