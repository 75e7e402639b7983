//! The scenarios alone, for somebody else to watch: what tracing costs is measured so.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Result;
use tokio::time::timeout;

use super::open_kvm;
use super::report::Report;
use crate::cli::Exit;
use crate::guest::{Host, Runner, Scenario, Settings};

/// Runs scenarios without hooks. As nothing is known of KVM's set-up, addresses that not every KVM
/// reaches are left out.
pub(super) async fn run(
    scenarios: Vec<Scenario>,
    settings: Settings,
    patience: Duration,
) -> Result<Exit> {
    let mut exit = Exit::Clean;
    for scenario in scenarios.into_iter().filter(|scenario| *scenario != Scenario::Decision) {
        let mut runner = Runner::new(open_kvm()?)?;
        let settings = settings.clone();
        let patience = patience + settings.time;
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
        let report = Report { scenario, cases: cases? };
        eprintln!("ept-trace: {report}");
        if report.has_failed() {
            exit = Exit::Failure;
        }
    }
    Ok(exit)
}
