//! The arguments, and which guests they ask for.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};

use crate::cli::reports::ReportArgs;
use crate::guest::{
    Cpuid, Guest, RandomGuests, Scenario, Settings, TOUCHING_MEMORY, mixed, ordinary, touching,
};

/// MAXPHYADDR of the guests that make KVM decide, unless told otherwise.
const MAXPHYADDRS: [u8; 8] = [32, 36, 39, 40, 46, 48, 49, 52];
/// vCPUs of a guest with several, unless told otherwise.
const VCPUS: u32 = 2;
/// How much a scenario does, unless told otherwise.
const INTENSITY: u32 = 1;
/// How long `churn` and `storm` go on, unless told otherwise, in seconds.
const TIME: u64 = 2;
/// Patience unless told otherwise, in seconds.
const PATIENCE: u64 = 120;
/// The longest time that can be asked for, in seconds.
const A_WEEK: u64 = 7 * 24 * 60 * 60;

/// The arguments.
#[expect(clippy::struct_excessive_bools, reason = "flags of the command line")]
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Scenarios to run, see --list; default: all, or `decision` alone with an option that is about
    /// its guests
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    scenario: Vec<Scenario>,
    /// List the scenarios
    #[arg(long)]
    pub(super) list: bool,
    /// How much a scenario does: 1 for some hundred EPT violations, 2 for twice as many
    #[arg(long, value_name = "N", default_value_t = INTENSITY)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=32))]
    intensity: u32,
    /// Seconds that `churn` and `storm` go on
    #[arg(long, value_name = "SECONDS", default_value_t = TIME)]
    #[arg(value_parser = clap::value_parser!(u64).range(..=A_WEEK))]
    time: u64,
    /// vCPUs of a guest with several
    #[arg(long, value_name = "N", default_value_t = VCPUS)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=64))]
    vcpus: u32,
    /// Repeat the random choices of this seed
    #[arg(long)]
    seed: Option<u64>,
    /// Load the vendor module (again) meanwhile, as modprobe is configured to, so that
    /// `hardware_setup` is seen
    #[arg(long)]
    pub(super) reload: bool,
    /// Seconds after which a guest that does not halt, or a scenario that does not end, is given up
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE)]
    #[arg(value_parser = clap::value_parser!(u64).range(..=A_WEEK))]
    pub(super) patience: u64,
    /// Also capture each change of an entry, and judge it against those before
    #[arg(long)]
    pub(super) history: bool,
    /// Use tracepoints alone, even where functions can be hooked
    #[arg(long)]
    pub(super) tracepoints: bool,
    /// Only run the scenarios, but `decision`; judge nothing
    #[arg(long, hide = true)]
    pub(super) unwatched: bool,
    /// Record the observations in a file, for `analyze`
    #[arg(short, value_name = "FILE")]
    pub(super) output_file: Option<std::path::PathBuf>,
    /// Without -o: where a recording of a run that fails is kept, in a directory of its own
    #[arg(long, value_name = "DIR", default_value = ".", conflicts_with = "output_file")]
    pub(super) keep: std::path::PathBuf,
    #[command(flatten)]
    pub(super) reports: ReportArgs,
    // The last: its heading is in force for all that follows.
    #[command(flatten)]
    guests: GuestArgs,
}

/// Which guests make KVM decide: those of the scenario `decision`.
#[derive(clap::Args)]
#[command(next_help_heading = "Guests of the scenario `decision`")]
struct GuestArgs {
    /// Their MAXPHYADDR values, in bits, and those of `nested`; default: 32,36,39,40,46,48,49,52, and
    /// 40,52
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    maxphyaddr: Vec<u8>,
    /// GuestPhysBits of every guest (CPUID 0x80000008 EAX[23:16]), 0 for none; default: as KVM has it
    #[arg(long, value_name = "BITS", conflicts_with = "random")]
    guest_phys_bits: Option<u8>,
    /// Instead: one guest whose vCPUs have these MAXPHYADDR values, one each
    #[arg(long, value_name = "LIST", value_delimiter = ',', group = "instead")]
    mixed: Vec<u8>,
    /// Instead: N vCPUs with random CPUID, in guests of 1 to 16
    #[arg(long, value_name = "N", group = "instead")]
    random: Option<usize>,
    /// Instead: guests that write to this GPA in 64-bit mode, in memory of its own
    #[arg(long, value_name = "GPA", value_parser = gpa, group = "instead")]
    touch: Option<u64>,
    /// With --touch: again for each line on stdin
    #[arg(long, requires = "touch")]
    again: bool,
}

/// Guests, as they are needed.
pub(super) type Guests = Box<dyn Iterator<Item = Guest>>;

impl Args {
    /// Whether KVM may refuse a guest's CPUID without that being a failure.
    pub(super) fn may_be_refused(&self) -> bool {
        self.guests.random.is_some()
    }

    /// Whether a guest that does not end says nothing about those that follow.
    pub(super) fn may_hang(&self) -> bool {
        self.guests.touch.is_some()
    }

    /// The scenarios asked for, each once, in the order in which they run.
    pub(super) fn scenarios(&self) -> Vec<Scenario> {
        let is_asked_for = |scenario: &Scenario| match self.scenario.as_slice() {
            [] => *scenario == Scenario::Decision || !self.guests.are_chosen(),
            some => some.contains(scenario),
        };
        Scenario::ALL.into_iter().filter(is_asked_for).collect()
    }

    /// The seed of all random choices, if there are any; it is told, so that they can be repeated.
    pub(super) fn seed(&self) -> u64 {
        let seed = self.seed.unwrap_or_else(arbitrary_seed);
        if self.guests.random.is_some() || self.scenarios() != [Scenario::Decision] {
            eprintln!("ept-trace: random choices, to be repeated with --seed {seed}");
        }
        seed
    }

    /// The command that repeats these scenarios, random choices included.
    pub(super) fn command(&self, scenarios: &[Scenario], seed: u64) -> String {
        let mut command = format!("ept-trace check --seed {seed}");
        if scenarios != Scenario::ALL {
            let _ = write!(command, " --scenario {}", list(scenarios));
        }
        let numbers = [
            ("--vcpus", u64::from(self.vcpus), VCPUS.into()),
            ("--intensity", self.intensity.into(), INTENSITY.into()),
            ("--time", self.time, TIME),
            ("--patience", self.patience, PATIENCE),
        ];
        for (option, number, usual) in numbers {
            if number != usual {
                let _ = write!(command, " {option} {number}");
            }
        }
        let flags = [
            ("--reload", self.reload),
            ("--history", self.history),
            ("--tracepoints", self.tracepoints),
        ];
        for (option, _) in flags.into_iter().filter(|(_, is_given)| *is_given) {
            let _ = write!(command, " {option}");
        }
        let guests = &self.guests;
        if scenarios.contains(&Scenario::Decision) {
            command += &guests.options();
        } else if scenarios.contains(&Scenario::Nested) && !guests.maxphyaddr.is_empty() {
            let _ = write!(command, " --maxphyaddr {}", list(&guests.maxphyaddr));
        }
        command
    }

    /// How scenarios are to be run.
    pub(super) fn settings(&self, seed: u64, reach: Result<u8, String>) -> Settings {
        Settings {
            vcpus: self.vcpus as usize,
            seed,
            intensity: self.intensity.into(),
            time: Duration::from_secs(self.time),
            maxphyaddrs: self.guests.maxphyaddr.clone(),
            reach,
        }
    }

    /// The guests of the scenario `decision`.
    pub(super) fn guests(&self, seed: u64) -> Guests {
        let guests = &self.guests;
        let given = guests.maxphyaddr.as_slice();
        let cpuids = guests.cpuids(if given.is_empty() { &MAXPHYADDRS } else { given });
        if let Some(vcpus) = guests.random {
            Box::new(RandomGuests::new(vcpus, seed))
        } else if let Some(gpa) = guests.touch {
            Box::new(touching(gpa, guests.again, &cpuids).into_iter())
        } else if guests.mixed.is_empty() {
            Box::new(ordinary(&cpuids, self.vcpus as usize).into_iter())
        } else {
            Box::new(std::iter::once(mixed(&guests.cpuids(&guests.mixed))))
        }
    }
}

impl GuestArgs {
    /// Whether any of these options is given.
    fn are_chosen(&self) -> bool {
        !self.maxphyaddr.is_empty()
            || self.guest_phys_bits.is_some()
            || !self.mixed.is_empty()
            || self.random.is_some()
            || self.touch.is_some()
    }

    /// They as they are given.
    fn options(&self) -> String {
        let mut options = String::new();
        let mut add = |option: &str, value: Option<String>| {
            if let Some(value) = value {
                let _ = write!(options, " {option} {value}");
            }
        };
        let given = |values: &[u8]| (!values.is_empty()).then(|| list(values));
        add("--maxphyaddr", given(&self.maxphyaddr));
        add("--guest-phys-bits", self.guest_phys_bits.map(|bits| bits.to_string()));
        add("--mixed", given(&self.mixed));
        add("--random", self.random.map(|count| count.to_string()));
        add("--touch", self.touch.map(|gpa| format!("{gpa:#x}")));
        if self.again {
            options += " --again";
        }
        options
    }

    fn cpuids(&self, maxphyaddrs: &[u8]) -> Vec<Cpuid> {
        let cpuid = |&bits| Cpuid { guest_phys_bits: self.guest_phys_bits, ..Cpuid::of(bits) };
        maxphyaddrs.iter().map(cpuid).collect()
    }
}

/// Values, as a list is given on the command line.
fn list<T: ToString>(values: &[T]) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

/// A seed that differs from run to run; short, for people to type.
fn arbitrary_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) ^ now.as_secs() & 0xffff_ffff
}

/// A GPA for a word of 8 bytes: hexadecimal after 0x, else decimal.
fn gpa(text: &str) -> Result<u64> {
    let gpa = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16)?,
        None => text.parse()?,
    };
    if gpa % 8 != 0 || gpa >> 52 != 0 {
        bail!("must be a multiple of 8, and have at most 52 bits");
    }
    if gpa < TOUCHING_MEMORY {
        bail!("the guest's own memory is below {TOUCHING_MEMORY:#x}");
    }
    Ok(gpa)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Result<Args, clap::Error> {
        let words = ["check"].into_iter().chain(line.split_ascii_whitespace());
        Cli::try_parse_from(words).map(|cli| cli.args)
    }

    fn args(line: &str) -> Args {
        parse(line).unwrap_or_else(|err| panic!("{line}: {err}"))
    }

    #[test]
    fn all_scenarios_run_unless_some_are_named_or_guests_are_chosen() {
        use Scenario::{Decision, Huge, Mmio};
        assert_eq!(args("").scenarios(), Scenario::ALL);
        assert_eq!(args("--vcpus 3 --seed 1 --intensity 2 --reload").scenarios(), Scenario::ALL);
        assert_eq!(args("--scenario mmio,huge,mmio").scenarios(), [Huge, Mmio]);
        for line in ["--maxphyaddr 36", "--mixed 36,52", "--random 3", "--touch 0x10000"] {
            assert_eq!(args(line).scenarios(), [Decision], "{line}");
            let both = args(&format!("{line} --scenario huge,decision"));
            assert_eq!(both.scenarios(), [Decision, Huge], "{line}");
        }
        assert!(parse("--scenario hugh").is_err());
        assert!(parse("--time 604800").is_ok() && parse("--time 18446744073709551615").is_err());
        assert!(parse("--intensity 0").is_err() && parse("--intensity 33").is_err());
    }

    #[test]
    fn every_maxphyaddr_has_guests() {
        // With one and with two vCPUs, neighbours both ways, and one without the leaf.
        assert_eq!(args("").guests(0).count(), 8 * 2 + 7 * 2 + 1);
    }

    #[test]
    fn a_run_is_repeated_by_the_command_that_it_tells() {
        for line in [
            "--seed 7",
            "--seed 7 --scenario huge,mmio --vcpus 3 --intensity 8 --patience 5 --reload --history",
            "--seed 7 --scenario decision --maxphyaddr 36,52 --guest-phys-bits 0",
            "--seed 7 --scenario decision --tracepoints --touch 0x10000 --again",
            "--seed 7 --scenario decision,huge --mixed 36,52",
            "--seed 7 --scenario decision --random 100",
            "--seed 7 --scenario nested,churn --time 9 --maxphyaddr 40",
        ] {
            let args = args(line);
            assert_eq!(args.command(&args.scenarios(), 7), format!("ept-trace check {line}"));
        }
        let alone = args("--maxphyaddr 36 --vcpus 1").command(&[Scenario::Huge], 7);
        assert_eq!(alone, "ept-trace check --seed 7 --scenario huge --vcpus 1");
        let alone = args("--maxphyaddr 36").command(&[Scenario::Nested], 7);
        assert_eq!(alone, "ept-trace check --seed 7 --scenario nested --maxphyaddr 36");
    }

    #[test]
    fn a_seed_is_taken_as_it_is() {
        assert_eq!(args("--seed 7").seed(), 7);
    }

    #[test]
    fn a_gpa_is_hexadecimal_or_decimal_and_aligned() {
        let parsed = ["0x10000", "65536", "0xffffffffffff8"].map(|text| gpa(text).ok());
        assert_eq!(parsed, [Some(0x10000), Some(0x10000), Some((1 << 52) - 8)]);
        for wrong in ["0x10001", "0x8000", "0x10000000000000", "1000h", "", "-8"] {
            assert!(gpa(wrong).is_err(), "{wrong}");
        }
    }
}
