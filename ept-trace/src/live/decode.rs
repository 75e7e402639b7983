//! From records to events.

use std::collections::{HashMap, HashSet};

use ept_trace_common::abi::{
    ABSENT, ConfigureRecord, DecisionRecord, FaultLoopRecord, Field, Fields, Header, Hook,
    Inputs as RawInputs, LEVELS, LoadRecord, MmuState as RawMmuState, Plain, RootRecord,
    SetupRecord, ShadowRecord, SpteRecord, Variable, VmRecord, WalkRecord, flag, handler, kind,
    unread,
};

use crate::kernel::{Layout, hook_name};
use crate::model::{
    Behaviour, ConfigureMmu, CpuidLeaves, Decision, Event, EventKind, FaultLoop, Inputs, Load,
    MmuState, Nested, PageFaultHandler, Race, Requested, Root, ShadowMmu, SpteChange, Walk,
};

/// A record, as far as it can be understood without knowing the kernel.
pub(super) enum Record {
    /// An event.
    Event(Event),
    /// The vendor module calls `kvm_configure_mmu`; what its arguments mean is known only when
    /// kvm itself is loaded and has been looked at.
    Configure(ConfigureRecord),
    /// `hardware_setup` was entered: a vendor module is being loaded.
    HardwareSetup(Event),
    /// A VM of which nothing was seen has come or gone.
    Nothing,
}

/// Decodes records, and numbers the VMs.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// By the address of `struct kvm`.
    vms: HashMap<u64, u32>,
    /// How many were numbered so far.
    numbered: u32,
    /// Addresses of the VMs that were seen to begin, with nothing lost since.
    born: HashSet<u64>,
}

impl Decoder {
    /// Decodes one record; `None` if it is not one, which would be a defect of ours.
    pub(super) fn decode(&mut self, bytes: &[u8], fields: &Fields) -> Option<Record> {
        let header: Header = plain_prefix(bytes)?;
        let hook = Hook::from_number(header.hook)?;
        let event = |kind| Event { time_ns: header.time_ns, kind };
        Some(match header.kind {
            kind::DECISION => {
                let decision = self.decision(&plain(bytes)?, hook, fields);
                Record::Event(event(EventKind::Decision(Box::new(decision))))
            }
            kind::ROOT => Record::Event(event(EventKind::Root(self.root(&plain(bytes)?)))),
            kind::LOAD => {
                let load = self.load(&plain(bytes)?, hook);
                Record::Event(event(EventKind::Load(Box::new(load))))
            }
            kind::SHADOW => {
                let shadow = self.shadow(&plain(bytes)?, hook);
                Record::Event(event(EventKind::ShadowMmu(Box::new(shadow))))
            }
            kind::FAULT_LOOP => {
                Record::Event(event(EventKind::FaultLoop(self.fault_loop(&plain(bytes)?))))
            }
            kind::WALK => {
                let walk = self.walk(&plain(bytes)?, hook, fields);
                Record::Event(event(EventKind::Walk(Box::new(walk))))
            }
            kind::SPTE => {
                Record::Event(event(EventKind::SpteChange(self.spte_change(&plain(bytes)?, hook))))
            }
            // The address is another VM's from now on.
            kind::VM => {
                let vm = plain::<VmRecord>(bytes)?.vm;
                if hook == Hook::DestroyVm {
                    self.born.remove(&vm);
                } else {
                    self.born.insert(vm);
                }
                match self.vms.remove(&vm) {
                    Some(vm) => Record::Event(event(EventKind::VmGone { vm })),
                    None => Record::Nothing,
                }
            }
            kind::CONFIGURE_MMU => Record::Configure(plain(bytes)?),
            kind::HARDWARE_SETUP => {
                plain::<SetupRecord>(bytes)?;
                let function = hook_name(hook);
                Record::HardwareSetup(event(EventKind::HardwareSetup { function }))
            }
            _ => return None,
        })
    }

    /// Records were lost: of no VM is everything seen any more.
    pub(super) fn lost(&mut self) {
        self.born.clear();
    }

    fn spte_change(&mut self, record: &SpteRecord, hook: Hook) -> SpteChange {
        let is_of_tdp_mmu = hook == Hook::SpteChanged;
        SpteChange {
            observed_by: hook_name(hook).into(),
            vm: (record.vm != 0).then(|| self.number(record.vm)),
            from_start: self.born.contains(&record.vm),
            in_log: None,
            as_id: is_of_tdp_mmu.then_some((record.as_id & 0xff) as u8),
            gfn: record.gfn,
            level: u8::try_from(record.level).unwrap_or(u8::MAX),
            old: is_of_tdp_mmu.then_some(record.old),
            new: record.new,
            place: (!is_of_tdp_mmu).then_some(record.place),
        }
    }

    /// The number of the VM at an address.
    fn number(&mut self, vm: u64) -> u32 {
        let numbered = &mut self.numbered;
        *self.vms.entry(vm).or_insert_with(|| {
            *numbered += 1;
            *numbered
        })
    }

    fn decision(&mut self, record: &DecisionRecord, hook: Hook, fields: &Fields) -> Decision {
        let is = |bit| record.flags & bit != 0;
        let read = |member: u32| record.of.unread & member == 0;
        let cpuid = is(flag::CPUID_READ).then(|| CpuidLeaves {
            entries: record.cpuid_nent,
            max_leaf: is(flag::LEAF_80000000).then_some(record.leaf_80000000_eax),
            address_sizes: is(flag::LEAF_80000008).then_some(record.leaf_80000008_eax),
        });
        let mut after = mmu_state(&record.after);
        if !read(unread::ROOT_LEVEL) {
            after.root_level = None;
        }
        if !read(unread::DIRECT) {
            after.direct = None;
        }
        Decision {
            observed_by: hook_name(hook),
            vm: self.number(record.of.vm),
            pid: record.of.creator,
            tgid: record.header.tgid,
            vcpu: record.of.vcpu_id,
            maxphyaddr: read(unread::MAXPHYADDR).then_some(record.of.maxphyaddr),
            cpuid,
            nested: is(flag::NESTED),
            tdp_init_seen: is(flag::TDP_INIT_SEEN),
            vm_type: (fields.vm_type.offset != ABSENT && read(unread::VM_TYPE))
                .then_some(record.vm_type),
            cr4: read(unread::CR4).then_some(record.cr4),
            efer: read(unread::EFER).then_some(record.efer),
            before: is(flag::BEFORE_READ).then(|| mmu_state(&record.before)),
            after,
            inputs: inputs(&record.inputs),
        }
    }

    fn root(&mut self, record: &RootRecord) -> Root {
        Root {
            vm: self.number(record.of.vm),
            pid: record.of.creator,
            vcpu: record.of.vcpu_id,
            gfn: record.gfn,
            role: Some(record.role),
            root_level: Some(u8::try_from(record.root_level).unwrap_or(u8::MAX)),
            ..Root::default()
        }
    }

    fn load(&mut self, record: &LoadRecord, hook: Hook) -> Load {
        let is = |bit| record.flags & bit != 0;
        let read = |member: u32| record.of.unread & member == 0;
        Load {
            observed_by: hook_name(hook),
            vm: self.number(record.of.vm),
            pid: record.of.creator,
            vcpu: record.of.vcpu_id,
            maxphyaddr: read(unread::MAXPHYADDR).then_some(record.of.maxphyaddr),
            nested: is(flag::NESTED),
            eptp: (hook == Hook::EptpWrite).then_some(record.eptp),
            root_hpa: record.root_hpa,
            level: u8::try_from(record.level).unwrap_or(u8::MAX),
            mmu_root_hpa: read(unread::ROOT_HPA).then_some(record.mmu_root_hpa),
            mmu_level: level_if(read(unread::ROOT_LEVEL), record.mmu_level),
            ad_disabled: read(unread::AD_DISABLED).then(|| is(flag::AD_DISABLED)),
            page_role: read(unread::PAGE_ROLE).then_some(record.page_role),
            is_dummy: is(flag::DUMMY_ROOT),
            inputs: inputs(&record.inputs),
        }
    }

    fn shadow(&mut self, record: &ShadowRecord, hook: Hook) -> ShadowMmu {
        let read = |member: u32| record.of.unread & member == 0;
        let nested = if hook == Hook::ShadowEptReturn {
            Nested::Ept {
                eptp12: read(unread::L1).then_some(record.eptp12),
                shown: read(unread::EPT_CAPS).then_some(record.ept_caps),
            }
        } else {
            Nested::Npt { l1: read(unread::L1).then_some((record.cr4, record.efer)) }
        };
        ShadowMmu {
            observed_by: hook_name(hook),
            vm: self.number(record.of.vm),
            pid: record.of.creator,
            vcpu: record.of.vcpu_id,
            maxphyaddr: read(unread::MAXPHYADDR).then_some(record.of.maxphyaddr),
            nested,
            level: level_if(read(unread::ROOT_LEVEL), record.level),
            walk_level: level_if(read(unread::WALK_LEVEL), record.walk_level),
            direct: read(unread::DIRECT).then_some(record.direct != 0),
            role: read(unread::ROLE).then_some(record.role),
            inputs: inputs(&record.inputs),
        }
    }

    fn walk(&mut self, record: &WalkRecord, hook: Hook, fields: &Fields) -> Walk {
        let is = |bit| record.flags & bit != 0;
        let read = |member: u32| record.of.unread & member == 0;
        let has = |field: &Field, member| field.offset != ABSENT && read(member);
        let count = (record.count as usize).min(LEVELS);
        let roles = if read(unread::PAGE_ROLE) { &record.roles[..count] } else { &[] };
        let of = |races: [(bool, Race); 4]| {
            races.into_iter().filter(|(is, _)| *is).map(|(_, race)| race).collect()
        };
        Walk {
            observed_by: hook_name(hook).into(),
            vm: self.number(record.of.vm),
            pid: record.of.creator,
            vcpu: record.of.vcpu_id,
            gpa: record.gpa,
            error_code: record.error_code,
            nested: is(flag::NESTED),
            answer: is(flag::ANSWERED).then_some(record.answer),
            result: record.result.cast_signed(),
            requested: is(flag::REQUESTED).then(|| Requested {
                gfn: record.requested_gfn,
                pfn: record.requested_pfn,
                level: u8::try_from(record.requested_level).unwrap_or(u8::MAX),
            }),
            root_hpa: read(unread::ROOT_HPA).then_some(record.root_hpa),
            root_level: level_if(read(unread::ROOT_LEVEL), record.level),
            ad_disabled: read(unread::AD_DISABLED).then(|| is(flag::AD_DISABLED)),
            is_dummy: is(flag::DUMMY_ROOT),
            entries: record.entries[..count].to_vec(),
            is_cut: !read(unread::ENTRIES),
            roles: roles.to_vec(),
            sampled: is(flag::SAMPLED),
            races: of([
                (is(flag::RACED_NOTIFIER), Race::Notifier),
                (is(flag::RACED_SLOTS), Race::Memslots),
                (is(flag::RACED_ENTRIES), Race::Entries),
                (is(flag::RACED_ROOT), Race::Root),
            ]),
            unseen_races: of([
                (!read(unread::NOTIFIER), Race::Notifier),
                (!read(unread::SLOTS), Race::Memslots),
                (false, Race::Entries),
                (!read(unread::ROOT_HPA), Race::Root),
            ]),
            slot_flags: read(unread::SLOT).then_some(record.slot_flags),
            noncoherent_dma: read(unread::NONCOHERENT_DMA).then_some(record.noncoherent_dma),
            vm_type: has(&fields.vm_type, unread::VM_TYPE).then_some(record.vm_type),
            mmio_value: has(&fields.mmio_value, unread::MMIO_VALUE).then_some(record.mmio_value),
            notifier_seq: read(unread::NOTIFIER).then_some(record.notifier_seq),
            slots_generation: read(unread::SLOTS).then_some(record.slots_generation),
            inputs: inputs(&record.inputs),
        }
    }

    fn fault_loop(&mut self, record: &FaultLoopRecord) -> FaultLoop {
        FaultLoop {
            vm: self.number(record.of.vm),
            pid: record.of.creator,
            vcpu: record.of.vcpu_id,
            gpa: record.gpa,
            error_code: record.error_code,
            answer: record.answer,
            count: record.count,
            for_ns: record.for_ns,
            mmu_level: level_if(record.of.unread & unread::ROOT_LEVEL == 0, record.mmu_level),
        }
    }
}

/// A level that was read, and can be one.
fn level_if(was_read: bool, level: u32) -> Option<u8> {
    u8::try_from(level).ok().filter(|_| was_read)
}

fn mmu_state(raw: &RawMmuState) -> MmuState {
    MmuState {
        role: raw.role,
        cpu_role: raw.cpu_role,
        root_level: u8::try_from(raw.root_level).ok(),
        direct: Some(raw.direct != 0),
        page_fault: match raw.handler {
            handler::TDP => Some(PageFaultHandler::Tdp),
            handler::OTHER => Some(PageFaultHandler::Other),
            _ => None,
        },
    }
}

fn inputs(raw: &RawInputs) -> Inputs {
    let value = |variable: Variable| {
        let index = variable as usize;
        (raw.valid & (1 << index) != 0).then(|| raw.value[index])
    };
    let level = |variable| value(variable).and_then(|level| u8::try_from(level).ok());
    let bit = |variable| value(variable).map(|value| value != 0);
    Inputs {
        tdp_enabled: bit(Variable::TdpEnabled),
        max_tdp_level: level(Variable::MaxTdpLevel),
        tdp_root_level: level(Variable::TdpRootLevel),
        enable_ept: bit(Variable::EnableEpt),
        vmx_capability_ept: value(Variable::VmxCapabilityEpt),
        npt_enabled: bit(Variable::NptEnabled),
        enable_ept_ad_bits: bit(Variable::EnableEptAdBits),
    }
}

/// The arguments of `kvm_configure_mmu` in their meaning on this kernel: by the names of its
/// parameters where BTF has them, else by the variables that they are stored in.
pub(super) fn configure_mmu(
    record: &ConfigureRecord,
    layout: &Layout,
    behaviour: &Behaviour,
) -> Event {
    let names: Vec<&str> = match &layout.modules.configure_mmu_parameters {
        // By names only if they are the ones that are known: another name, another meaning.
        Some(names) if names.iter().any(|name| name == "enable_tdp") => {
            names.iter().map(String::as_str).collect()
        }
        _ if behaviour.has_tdp_root_level => {
            vec!["enable_tdp", "tdp_forced_root_level", "tdp_max_root_level", "tdp_huge_page_level"]
        }
        _ if behaviour.has_max_tdp_level => {
            vec!["enable_tdp", "tdp_max_root_level", "tdp_huge_page_level"]
        }
        _ => vec!["enable_tdp", "tdp_page_level"],
    };
    // An int takes the low half of its register, a bool the lowest byte.
    let argument = |name: &str| {
        let place = names.iter().position(|parameter| *parameter == name)?;
        record.args.get(place).map(|value| (*value & 0xff) as u8)
    };
    Event {
        time_ns: record.header.time_ns,
        kind: EventKind::ConfigureMmu(ConfigureMmu {
            enable_tdp: argument("enable_tdp").is_some_and(|enable| enable != 0),
            forced_root_level: argument("tdp_forced_root_level"),
            max_root_level: argument("tdp_max_root_level"),
            huge_page_level: argument("tdp_huge_page_level").or(argument("tdp_page_level")),
        }),
    }
}

/// When a record was made; 0 if it is not one.
pub(super) fn time_of(bytes: &[u8]) -> u64 {
    plain_prefix::<Header>(bytes).map_or(0, |header| header.time_ns)
}

/// Reads a value that the bytes hold exactly.
fn plain<T: Plain>(bytes: &[u8]) -> Option<T> {
    // The ring rounds a record up to 8 bytes; ours are multiples of 8 already.
    (bytes.len() == size_of::<T>()).then(|| plain_prefix(bytes))?
}

fn plain_prefix<T: Plain>(bytes: &[u8]) -> Option<T> {
    (bytes.len() >= size_of::<T>())
        // SAFETY: the bytes are there, and `Plain` says that any of them make a `T`; the read
        // asks for no alignment.
        .then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

#[cfg(test)]
mod tests;
