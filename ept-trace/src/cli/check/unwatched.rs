//! The scenarios alone, for somebody else to watch: what tracing costs is measured so.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::time::timeout;

use super::{Args, open_kvm};
use crate::cli::Exit;
use crate::guest::{Host, Runner, Scenario};
use crate::model::ScenarioResult;

/// Runs scenarios without hooks. As nothing is known of KVM's set-up, addresses that not every KVM
/// reaches are left out.
pub(super) async fn run(args: &Args) -> Result<Exit> {
    let settings = args.settings(args.seed(), Err("nobody has looked at KVM".to_owned()));
    let patience = Duration::from_secs(args.patience) + settings.time;
    let mut exit = Exit::Clean;
    for scenario in args.scenarios().into_iter().filter(|scenario| *scenario != Scenario::Decision)
    {
        let mut runner = Runner::new(open_kvm()?)?;
        let settings = settings.clone();
        let begun = Instant::now();
        runner.start(move |kvm, stop| {
            let is_ahead = &AtomicBool::new(false);
            scenario.run(&Host { kvm, settings: &settings, stop, is_ahead })
        })?;
        let Ok(cases) = timeout(patience, runner.ended()).await else {
            eprintln!(
                "ept-trace: scenario {scenario}: did not end within {} s",
                patience.as_secs()
            );
            return Ok(Exit::Failure);
        };
        let (name, cases, took) = (scenario.name().to_owned(), cases?, begun.elapsed());
        let result = ScenarioResult { name, cases, took, ..ScenarioResult::default() };
        eprintln!("ept-trace: {result}");
        if result.has_failed() {
            exit = Exit::Failure;
        }
    }
    Ok(exit)
}
