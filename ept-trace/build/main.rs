//! Builds what the feature `live` embeds: the eBPF object, and the hypervisor of the scenario `nested`.

#[path = "bare.rs"]
mod bare;
#[path = "toolchain.rs"]
mod toolchain;

use std::env;
use std::path::PathBuf;
use std::process::exit;

use bare::Program;

fn main() {
    println!("cargo::rerun-if-changed=build");
    if env::var_os("CARGO_FEATURE_LIVE").is_none() {
        return;
    }
    if let Err(why) = build() {
        eprintln!("error: what is embedded cannot be built: {why}");
        eprintln!("  this mends it:             cargo xtask setup");
        eprintln!("  to do without live tracing: cargo build --no-default-features");
        exit(1);
    }
}

fn build() -> Result<(), String> {
    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("no manifest dir")?);
    let workspace = manifest_dir.parent().ok_or("the crate is not in its workspace")?;
    for part in ["ept-trace-ebpf", "ept-trace-common", "ept-trace/l1", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(part).display());
    }
    if let Some(cache) = toolchain::cache_dir() {
        println!("cargo::rerun-if-changed={}", cache.join("bpf-linker").display());
    }

    let toolchain = toolchain::find()?;
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    let ebpf = Program {
        package: "ept-trace-ebpf",
        target: "bpfel-unknown-none",
        linker: toolchain.bpf_linker.clone(),
        rustflags: vec!["--cfg=bpf_target_arch=\"x86_64\"".to_owned()],
    };
    let script = manifest_dir.join("l1/link.ld");
    let l1 = Program {
        package: "ept-trace-l1",
        target: "x86_64-unknown-none",
        // That of the C compiler, without which there is no Rust on the host either.
        linker: PathBuf::from("ld"),
        rustflags: vec![
            "-Clinker-flavor=ld".to_owned(),
            "-Crelocation-model=static".to_owned(),
            "-Ccode-model=small".to_owned(),
            format!("-Clink-arg=-T{}", script.display()),
        ],
    };
    let object = ebpf.build(&toolchain, workspace, &out_dir.join("ebpf"))?;
    println!("cargo::rustc-env=EPT_TRACE_EBPF_OBJECT={}", object.display());
    let image = l1.build(&toolchain, workspace, &out_dir.join("l1"))?;
    println!("cargo::rustc-env=EPT_TRACE_L1_IMAGE={}", image.display());
    Ok(())
}
