//! A run of live capture, from attaching to the last count.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow};
use aya::maps::{MapData, RingBuf};
use ept_trace_common::abi::{Config, Hook, Variables};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::CannotRun;
use super::attachment::remove_stale;
use super::decode::{Decoder, Record, configure_mmu, time_of};
use super::hooks::Hooks;
use super::janitor::Janitor;
use super::loading::{Change, Loading, Waiting};
use super::object::Object;
use crate::analysis::HookCounts;
use crate::kernel::{Access, Attach, AttachPlan, Filter, Host, Scope, Tracefs};
use crate::model::{Event, EventKind};

/// How often losses and modules are looked at, and a ring that has not called is read anyway.
const TICK: Duration = Duration::from_millis(200);

/// Records taken from a ring at a time, so that a busy machine cannot keep us from the rest.
const BATCH: usize = 4096;

/// Size of the events' ring unless another is asked for, in bytes.
const RING_BYTES: u32 = 1 << 20;

/// What to capture.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What the kernel side leaves out, and counts as filtered.
    pub filter: Filter,
    /// Tracepoints only.
    pub no_kprobes: bool,
    /// What faults resolve to as well; kvm cannot be unloaded meanwhile.
    pub frames: bool,
    /// Size of the events' ring in bytes, if not the ordinary one.
    pub ring_bytes: Option<u32>,
    /// Another eBPF object than the one built in.
    pub object: Option<PathBuf>,
}

impl Options {
    fn scope(&self) -> Scope {
        Scope {
            kprobes: !self.no_kprobes,
            walks: self.filter.one_walk_in > 0,
            frames: self.frames,
            history: self.filter.history,
        }
    }
}

/// A run of live capture.
pub struct Session {
    access: Access,
    host: Host,
    tracefs: Tracefs,
    options: Options,
    plan: AttachPlan,
    /// The constants that the programs were loaded with.
    config: Config,
    object: Object,
    hooks: Hooks,
    rings: [AsyncFd<RingBuf<MapData>>; 4],
    /// There is more to take: do not wait for a ring to call again.
    more: bool,
    /// Records that are too new to be understood yet.
    newer: Vec<Vec<u8>>,
    decoder: Decoder,
    tick: Interval,
    looked: Instant,
    loading: Loading,
    // Last, for it is dropped last: it cleans up only when everything else is gone.
    _janitor: Option<Janitor>,
}

impl Session {
    /// Loads and attaches everything that the plan has chosen.
    ///
    /// # Errors
    ///
    /// [`CannotRun`] where this machine has no way to see decisions; else what failed.
    pub fn start(options: Options) -> Result<Self> {
        super::preflight()?;
        let cannot_run = |err| anyhow!(CannotRun(format!("{err:#}")));
        let access = Access::open().map_err(cannot_run)?;
        let host = Host::read_by(&access).map_err(cannot_run)?;
        let tracefs = Tracefs::open().map_err(cannot_run)?;
        let mut plan = host.plan(&tracefs, options.scope());
        ensure_sight(&plan)?;

        let config = host.config(&tracefs, options.filter);
        let ring_bytes = options.ring_bytes.unwrap_or(RING_BYTES);
        let mut object = Object::open(&config, ring_bytes, options.object.as_deref())?;
        object.set_variables(&host.variables(&tracefs))?;
        object.forward_logs();

        let makes_kprobes =
            plan.chosen().any(|(_, attach)| matches!(attach, Attach::Kprobe { .. }));
        let janitor = if makes_kprobes {
            remove_stale(&tracefs);
            Some(Janitor::start()?)
        } else {
            None
        };
        let mut hooks = Hooks::default();
        hooks.attach(&mut plan, &mut object, &tracefs);
        if let (Err(why), false) = (plan.sees_decisions(), options.no_kprobes) {
            // Planned, and refused by the kernel all the same: tracepoints may do.
            log::warn!("without kvm_init_mmu: {why}");
            hooks.remove(&tracefs);
            plan = host.plan(&tracefs, Scope { kprobes: false, ..options.scope() });
            hooks.attach(&mut plan, &mut object, &tracefs);
        }
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let session = Self {
            loading: Loading::new(host.modules.clone()),
            config,
            rings: [
                polled(object.ring("EVENTS")?)?,
                polled(object.ring("URGENT")?)?,
                polled(object.ring("WALKS")?)?,
                polled(object.ring("HISTORY")?)?,
            ],
            more: false,
            newer: Vec::new(),
            access,
            host,
            tracefs,
            options,
            plan,
            object,
            hooks,
            decoder: Decoder::default(),
            tick,
            looked: Instant::now(),
            _janitor: janitor,
        };
        // From here on, whatever was attached is taken down again.
        ensure_sight(&session.plan)?;
        Ok(session)
    }

    /// What a stream begins with: the hooks, and the machine.
    pub fn first_events(&self) -> [Event; 2] {
        [now(self.plan.event()), now(EventKind::Facts(Box::new(self.host.facts.clone())))]
    }

    /// The plan, as it came out.
    pub fn plan(&self) -> &AttachPlan {
        &self.plan
    }

    /// Whether more was in the rings than is taken at a time.
    pub fn is_behind(&self) -> bool {
        self.more
    }

    /// Waits for something to happen. Safe to cancel: nothing is taken before it is returned.
    ///
    /// # Errors
    ///
    /// If the rings or the counters can no longer be read.
    pub async fn next(&mut self) -> Result<Vec<Event>> {
        if self.more {
            // Others get their turn.
            tokio::task::yield_now().await;
        } else {
            let [events, urgent, walks, history] = &self.rings;
            tokio::select! {
                ready = events.readable() => ready?.clear_ready(),
                ready = urgent.readable() => ready?.clear_ready(),
                ready = walks.readable() => ready?.clear_ready(),
                ready = history.readable() => ready?.clear_ready(),
                _ = self.tick.tick() => {}
            }
        }
        // Not by the tick itself: a machine that keeps the rings full would never let it come.
        let is_time = self.looked.elapsed() >= TICK;
        let mut events = Vec::new();
        if is_time {
            self.looked = Instant::now();
            // Before the rings: what is read from them now was made, but for a moment, before.
            events.extend(self.look_for_losses()?);
        }
        events.extend(self.drain());
        if is_time {
            events.extend(self.look_at_modules()?);
        }
        Ok(events)
    }

    /// Takes what is in the rings, and understands it in the order of time: which VM an address
    /// belongs to, and what a root is held against, depend on what came before, in whichever ring.
    fn drain(&mut self) -> Vec<Event> {
        self.drain_until(clock())
    }

    /// Takes the records made until a moment; later ones wait, for what came before them may have
    /// been put into the other ring just after that was read.
    fn drain_until(&mut self, mut until: u64) -> Vec<Event> {
        let mut records = std::mem::take(&mut self.newer);
        self.more = false;
        for ring in &mut self.rings {
            let ring = ring.get_mut();
            let mut taken = 0;
            while taken < BATCH
                && let Some(bytes) = ring.next()
            {
                records.push(bytes.to_vec());
                taken += 1;
            }
            if taken == BATCH {
                self.more = true;
                until = until.min(records.last().map_or(0, |bytes| time_of(bytes)));
            }
        }
        records.sort_by_key(|bytes| time_of(bytes));
        self.newer = records.split_off(records.partition_point(|bytes| time_of(bytes) <= until));
        self.more |= !self.newer.is_empty();
        // Without the hook on kvm_configure_mmu a load is seen by its trace in sysfs alone.
        if !records.is_empty()
            && !self.hooks.has(Hook::ConfigureMmu)
            && !self.loading.is_unchanged()
        {
            self.loading.began();
        }
        let mut events = Vec::new();
        for bytes in records {
            match self.decoder.decode(&bytes, &self.config.fields) {
                Some(Record::Event(event)) => events.extend(self.loading.pass(event)),
                Some(Record::HardwareSetup(event)) => {
                    self.loading.began();
                    events.push(event);
                }
                Some(Record::Configure(record)) => self.loading.configured(record),
                Some(Record::Nothing) => {}
                None => log::error!("a record of {} bytes is not understood", bytes.len()),
            }
        }
        events
    }

    /// Reads the machine anew when a module has come, gone, or come again.
    fn look_at_modules(&mut self) -> Result<Vec<Event>> {
        match self.loading.look() {
            Change::Stale => self.read_anew(),
            Change::None | Change::Pending => Ok(Vec::new()),
        }
    }

    fn read_anew(&mut self) -> Result<Vec<Event>> {
        // Until the new addresses are known, none are.
        self.object.set_variables(&Variables::UNKNOWN)?;
        self.hooks.remove_inner(&self.object, &self.tracefs);
        let host = Host::read_by(&self.access);
        if !self.loading.is_unchanged() || host.is_err() {
            // Changed again while it was read: the next look sees that.
            self.loading.began();
            return Ok(Vec::new());
        }
        self.host = host?;
        let mut events = Vec::new();
        let config = self.host.config(&self.tracefs, self.options.filter);
        if config.same_structures(&self.config) {
            // Hooks on a function that runs once, at load, can only be set while its module is
            // away.
            let mut plan = self.host.plan(&self.tracefs, self.options.scope());
            if config.tracepoints != self.config.tracepoints {
                plan.refuse_tracepoints("kvm was not loaded when ept-trace was started");
            }
            self.hooks.attach(&mut plan, &mut self.object, &self.tracefs);
            if plan != self.plan {
                self.plan = plan;
                events.push(now(self.plan.event()));
            }
            // Last: which register has the EPTP goes with the place that it is read at.
            self.object.set_variables(&self.host.variables(&self.tracefs))?;
            if !self.loading.is_unchanged() {
                self.object.set_variables(&Variables::UNKNOWN)?;
            }
        } else {
            // What has waited was read by the offsets of another kvm.
            let unjudged = self.loading.settled().len();
            if self.hooks.detach(&self.tracefs) || unjudged > 0 {
                let reason = format!(
                    "kvm was loaded with other structures than when ept-trace was started: nothing \
                     is captured until it is started again, and {unjudged} records are not judged"
                );
                events.push(now(EventKind::Gap { reason }));
            }
        }
        events.push(now(EventKind::Facts(Box::new(self.host.facts.clone()))));
        let behaviour = &self.host.facts.behaviour;
        events.extend(self.loading.settled().into_iter().map(|waiting| match waiting {
            Waiting::Configure(record) => configure_mmu(&record, &self.host.layout, behaviour),
            Waiting::Event(event) => event,
        }));
        Ok(events)
    }

    /// Reports records lost since the last look.
    fn look_for_losses(&mut self) -> Result<Vec<Event>> {
        let losses = self.hooks.losses(&self.object, &self.tracefs)?;
        if !losses.is_empty() {
            self.decoder.lost();
        }
        let told = |(hook, records)| now(EventKind::Loss { hook, records });
        Ok(losses.into_iter().map(told).collect())
    }

    /// Detaches everything, and returns what was still on its way and the final counts.
    ///
    /// # Errors
    ///
    /// If the counters can no longer be read.
    pub fn finish(mut self) -> Result<(Vec<Event>, Vec<HookCounts>)> {
        self.hooks.detach(&self.tracefs);
        let mut events = self.drain_until(u64::MAX);
        while self.more {
            events.extend(self.drain_until(u64::MAX));
        }
        for _ in 0..3 {
            if self.loading.look() == Change::None {
                break;
            }
            events.extend(self.read_anew()?);
            // Only what it has kept from the stream is of use now; nothing is attached again.
            self.hooks.detach(&self.tracefs);
        }
        let unjudged = self.loading.settled().len();
        if unjudged > 0 {
            let reason = format!(
                "{unjudged} records were made while a module was being loaded, and the end came \
                 before the machine could be read anew"
            );
            events.push(now(EventKind::Gap { reason }));
        }
        events.extend(self.look_for_losses()?);
        events.push(now(EventKind::End));
        let counts = self.hooks.counts(&self.object, &self.tracefs)?;
        Ok((events, counts))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.hooks.remove(&self.tracefs);
    }
}

/// Whether what is left of the plan sees decisions.
fn ensure_sight(plan: &AttachPlan) -> Result<()> {
    plan.sees_decisions()
        .map_err(|why| anyhow!(CannotRun(format!("no decision can be seen here: {why}"))))
}

fn polled(ring: RingBuf<MapData>) -> std::io::Result<AsyncFd<RingBuf<MapData>>> {
    // SAFETY: the ring owns its descriptor, and shows the same one until it is dropped.
    Ok(unsafe { AsyncFd::register(ring) }?)
}

/// An event of this moment.
fn now(kind: EventKind) -> Event {
    Event { time_ns: clock(), kind }
}

/// The clock of the records, `CLOCK_MONOTONIC`, in nanoseconds.
pub fn clock() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanoseconds
}
